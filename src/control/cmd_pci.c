// SPDX-License-Identifier: GPL-2.0-or-later
/* query-pci: the PCI functions as the guest's registers have them. */
#include <stdio.h>

#include "control/internal.h"
#include "pci/root_port.h"

static const char *class_name(unsigned class)
{
	switch (class) {
	case 0x0100: return "SCSI controller";
	case 0x0106: return "SATA controller";
	case 0x0108: return "NVMe controller";
	case 0x0200: return "Ethernet controller";
	case 0x0300: return "VGA controller";
	case 0x0600: return "Host bridge";
	case 0x0601: return "ISA bridge";
	case 0x0604: return "PCI bridge";
	case 0x0c03: return "USB controller";
	case 0x0c05: return "SMBus";
	default: return NULL;
	}
}

static json_t *regions_of(const struct pci_dev *d)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		const struct pci_bar *b = &d->bar[i];
		bool io = b->kind == PCI_BAR_IO;
		uint64_t at = pci_bar_addr(d, i);
		json_t *r;

		if (b->kind == PCI_BAR_NONE)
			continue;
		r = json_pack("{s:i,s:s,s:I,s:I}", "bar", (int)i, "type", io ? "io" : "memory", "address",
			      at == UINT64_MAX ? (json_int_t)-1 : (json_int_t)at, "size", (json_int_t)b->size);
		if (r && !io) {
			json_object_set_new(r, "prefetch", json_boolean(b->prefetch));
			json_object_set_new(r, "mem_type_64", json_boolean(b->kind == PCI_BAR_MEM64));
		}
		json_array_append_new(list, r);
	}
	return list;
}

static json_t *range(uint64_t base, uint64_t limit)
{
	return json_pack("{s:I,s:I}", "base", (json_int_t)base, "limit", (json_int_t)limit);
}

/* PCI-to-PCI bridge 1.2, 3.2.5: granules of 4 KiB and 1 MiB. */
static json_t *bridge_of(const struct pci_dev *d)
{
	const uint8_t *c = d->config;
	uint64_t pref = (uint64_t)(ld_le16(c + PCI_PREF_BASE) & 0xfff0) << 16 | (uint64_t)ld_le32(c + PCI_PREF_BASE_UPPER) << 32;
	uint64_t pref_end = (uint64_t)(ld_le16(c + PCI_PREF_LIMIT) & 0xfff0) << 16 | 0xfffff | (uint64_t)ld_le32(c + PCI_PREF_LIMIT_UPPER) << 32;

	return json_pack("{s:{s:i,s:i,s:i,s:o,s:o,s:o}}", "bus", "number", c[PCI_PRIMARY_BUS], "secondary", c[PCI_SECONDARY_BUS], "subordinate",
			 c[PCI_SUBORDINATE_BUS], "io_range", range((uint64_t)(c[PCI_IO_BASE] & 0xf0) << 8, (uint64_t)(c[PCI_IO_LIMIT] & 0xf0) << 8 | 0xfff),
			 "memory_range", range((uint64_t)(ld_le16(c + PCI_MEMORY_BASE) & 0xfff0) << 16,
					       (uint64_t)(ld_le16(c + PCI_MEMORY_LIMIT) & 0xfff0) << 16 | 0xfffff),
			 "prefetchable_range", range(pref, pref_end));
}

static const char *id_of(struct control *ctl, const struct pci_dev *d)
{
	const char *id = vm_pci_id(ctl->vm, d);

	return id ? id : "";
}

static json_t *function(struct control *ctl, const struct pci_dev *d, unsigned bus)
{
	const uint8_t *c = d->config;
	unsigned class = ld_le16(c + PCI_CLASS_PROG + 1);
	json_t *j = json_pack("{s:i,s:i,s:i,s:{s:i},s:{s:i,s:i},s:i,s:s,s:o}", "bus", (int)bus, "slot", d->devfn >> 3, "function", d->devfn & 7,
			      "class_info", "class", (int)class, "id", "device", (int)ld_le16(c + PCI_DEVICE_ID), "vendor",
			      (int)ld_le16(c + PCI_VENDOR_ID), "irq_pin", c[PCI_INTERRUPT_PIN], "qdev_id", id_of(ctl, d), "regions", regions_of(d));

	if (j && class_name(class))
		json_object_set_new(json_object_get(j, "class_info"), "desc", json_string(class_name(class)));
	if (j && c[PCI_INTERRUPT_PIN])
		json_object_set_new(j, "irq", json_integer(c[PCI_INTERRUPT_LINE]));
	if (j && class == 0x0604)
		json_object_set_new(j, "pci_bridge", bridge_of(d));
	return j;
}

struct walk {
	struct control *ctl;
	struct pci_bus *root;
	json_t *list;
};

static void add_function(void *opaque, struct pci_dev *d)
{
	struct walk *w = opaque;
	struct pci_root_port *port = pci_root_port_of(d->bus);
	const struct pci_dev *bridge = port ? pci_root_port_function(port) : NULL;
	json_t *j, *on;

	if (!bridge) {
		json_array_append_new(w->list, function(w->ctl, d, 0));
		return;
	}
	/* Its bridge was added before. */
	for (size_t i = 0; i < json_array_size(w->list); i++) {
		j = json_array_get(w->list, i);
		if (json_integer_value(json_object_get(j, "slot")) != bridge->devfn >> 3 ||
		    json_integer_value(json_object_get(j, "function")) != (bridge->devfn & 7))
			continue;
		on = json_pack("[o]", function(w->ctl, d, bridge->config[PCI_SECONDARY_BUS]));
		json_object_set_new(json_object_get(j, "pci_bridge"), "devices", on);
	}
}

void ctl_cmd_query_pci(struct ctl_call *c, const struct ctl_args_query_pci *a)
{
	struct walk w = { .ctl = c->ctl, .root = vm_pci_root(c->ctl->vm), .list = json_array() };

	if (!w.root) {
		json_decref(w.list);
		ctl_return(c, json_array());
		return;
	}
	pci_for_each(w.root, add_function, &w);
	ctl_return(c, json_pack("[{s:i,s:o}]", "bus", 0, "devices", w.list));
}
