// SPDX-License-Identifier: GPL-2.0-or-later
/* The monitor for people: "info pci", in the lines of QEMU's. */
#include <string.h>

#include "control/hmp.h"

static void print_range(struct hmp *h, const json_t *bus, const char *key, const char *name)
{
	const json_t *r = json_object_get(bus, key);

	fprintf(h->out, "      %s range [0x%08llx, 0x%08llx]\r\n", name, hmp_number(r, "base"), hmp_number(r, "limit"));
}

static void print_bridge(struct hmp *h, const json_t *bridge)
{
	const json_t *bus = json_object_get(bridge, "bus");

	fprintf(h->out, "      BUS %lld.\r\n      secondary bus %lld.\r\n      subordinate bus %lld.\r\n", hmp_number(bus, "number"),
		hmp_number(bus, "secondary"), hmp_number(bus, "subordinate"));
	print_range(h, bus, "io_range", "IO");
	print_range(h, bus, "memory_range", "memory");
	print_range(h, bus, "prefetchable_range", "prefetchable memory");
}

/* An address of -1: the guest has given it none. */
static void print_region(struct hmp *h, const json_t *r)
{
	bool io = !strcmp(hmp_text(r, "type"), "io");
	unsigned long long at = (unsigned long long)hmp_number(r, "address"), last = at + (unsigned long long)hmp_number(r, "size") - 1;

	fprintf(h->out, "      BAR%lld: ", hmp_number(r, "bar"));
	if (io)
		fprintf(h->out, "I/O at 0x%04llx [0x%04llx].\r\n", at, last);
	else
		fprintf(h->out, "%d bit%s memory at 0x%08llx [0x%08llx].\r\n", json_is_true(json_object_get(r, "mem_type_64")) ? 64 : 32,
			json_is_true(json_object_get(r, "prefetch")) ? " prefetchable" : "", at, last);
}

static void print_devices(struct hmp *h, const json_t *list);

static void print_device(struct hmp *h, const json_t *d)
{
	const json_t *class = json_object_get(d, "class_info"), *id = json_object_get(d, "id"), *bridge = json_object_get(d, "pci_bridge"), *r;
	size_t i;

	fprintf(h->out, "  Bus %2lld, device %3lld, function %lld:\r\n    ", hmp_number(d, "bus"), hmp_number(d, "slot"), hmp_number(d, "function"));
	if (*hmp_text(class, "desc"))
		fprintf(h->out, "%s", hmp_text(class, "desc"));
	else
		fprintf(h->out, "Class %04llx", (unsigned long long)hmp_number(class, "class"));
	fprintf(h->out, ": PCI device %04llx:%04llx\r\n", (unsigned long long)hmp_number(id, "vendor"), (unsigned long long)hmp_number(id, "device"));
	if (json_object_get(d, "irq"))
		fprintf(h->out, "      IRQ %lld, pin %c\r\n", hmp_number(d, "irq"), (char)('A' + hmp_number(d, "irq_pin") - 1));
	if (bridge)
		print_bridge(h, bridge);
	json_array_foreach(json_object_get(d, "regions"), i, r)
		print_region(h, r);
	fprintf(h->out, "      id \"%s\"\r\n", hmp_text(d, "qdev_id"));
	if (bridge)
		print_devices(h, json_object_get(bridge, "devices"));
}

static void print_devices(struct hmp *h, const json_t *list)
{
	const json_t *d;
	size_t i;

	json_array_foreach(list, i, d)
		print_device(h, d);
}

void hmp_info_pci(struct hmp *h)
{
	json_t *buses = hmp_qmp(h, "query-pci", NULL), *bus;
	size_t i;

	json_array_foreach(buses, i, bus)
		print_devices(h, json_object_get(bus, "devices"));
	json_decref(buses);
}
