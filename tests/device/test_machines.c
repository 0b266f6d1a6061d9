/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the two machines as a guest sees them: interrupts find their way
 * from a chip to the CPU, functions on PCI and virtio-mmio slots are where they
 * should be and work, reset and power-off reach the host, a second boot starts
 * from the same state.
 *
 * Addresses are written out here: a guest has them in its drivers.
 */
#include "../unit/unit.h"

#include "chardev/chardev.h"
#include "platform/x86/platform.h"
#include "puppet_client.h"
#include "virtio/rng.h"

#define MS 1000000ll
#define LAPIC 0xfee00000ull
#define IOAPIC 0xfec00000ull
#define RAM (16ull << 20)

struct box {
	struct puppet *p;
	struct platform *pf;
	struct chardev *com1;
	char out[256];
	size_t n_out;
};

static void sink(void *o, const uint8_t *buf, size_t len)
{
	struct box *b = o;

	for (size_t i = 0; i < len && b->n_out < sizeof(b->out) - 1; i++)
		b->out[b->n_out++] = (char)buf[i];
}

static void boot(struct box *b)
{
	struct err e;

	machine_lock(b->p->m);
	assert_int_equal(platform_boot(b->pf, &e), 0);
	machine_unlock(b->p->m);
	puppet_settle(b->p);
}

static int setup(void **state, enum platform_kind kind)
{
	struct platform_config cfg = { .kind = kind, .mem_size = RAM, .n_vcpus = 1 };
	struct box *b = calloc(1, sizeof(*b));
	struct virtio_dev *rng;
	struct err e;

	*state = b;
	b->p = puppet_new(0);
	b->p->m->msi = NULL;
	if (chardev_pipe_new(b->p->m->loop, sink, b, &b->com1))
		return -1;
	cfg.serial[0] = b->com1;
	if (platform_new(b->p->m, b->p->e, &cfg, &b->pf, &e) ||
	    virtio_rng_new(b->p->m, "rng0", &rng, &e) || platform_add_virtio(b->pf, rng, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	boot(b);
	return 0;
}

static int setup_pc(void **state)
{
	return setup(state, PLATFORM_PC);
}

static int setup_micro(void **state)
{
	return setup(state, PLATFORM_MICRO);
}

static int teardown(void **state)
{
	struct box *b = *state;

	machine_lock(b->p->m);
	machine_free_devs(b->p->m);
	chardev_free(b->com1);
	machine_unlock(b->p->m);
	puppet_free(b->p);
	platform_free(b->pf);
	free(b);
	return 0;
}

/* As an OS does: the 8259s masked (pc), the local APIC on, nothing held back. */
static void enable_lapic(struct box *b)
{
	puppet_outb(b->p, 0x21, 0xff);
	puppet_outb(b->p, 0xa1, 0xff);
	puppet_mmio_write32(b->p, LAPIC + 0xf0, 0x1ff);
	puppet_mmio_write32(b->p, LAPIC + 0x80, 0);
}

static void eoi(struct box *b)
{
	puppet_mmio_write32(b->p, LAPIC + 0xb0, 0);
}

/* Redirection entry: vector, level or edge, to APIC 0. */
static void route(struct box *b, unsigned pin, uint32_t low)
{
	puppet_mmio_write32(b->p, IOAPIC, 0x10 + 2 * pin + 1);
	puppet_mmio_write32(b->p, IOAPIC + 0x10, 0);
	puppet_mmio_write32(b->p, IOAPIC, 0x10 + 2 * pin);
	puppet_mmio_write32(b->p, IOAPIC + 0x10, low);
}

static void pit_100hz(struct box *b)
{
	puppet_outb(b->p, 0x43, 0x34);
	puppet_outb(b->p, 0x40, 11932 & 0xff);
	puppet_outb(b->p, 0x40, 11932 >> 8);
}

static void pit_ticks_through_the_ioapic(void **state)
{
	struct box *b = *state;
	unsigned ticks = 0;

	enable_lapic(b);
	route(b, 2, 0x30);			/* GSI 0 arrives at pin 2 */
	pit_100hz(b);
	while (puppet_irq_taken(b->p) >= 0)
		eoi(b);
	for (int i = 0; i < 100; i++) {
		puppet_clock_step(b->p, MS);
		if (puppet_irq_taken(b->p) == 0x30) {
			ticks++;
			eoi(b);
		}
	}
	assert_in_range(ticks, 9, 11);
}

static void pit_ticks_through_the_8259(void **state)
{
	static const uint8_t icw[] = { 0x11, 0x20, 0x04, 0x01 };
	struct box *b = *state;
	unsigned ticks = 0;

	puppet_outb(b->p, 0x20, icw[0]);
	for (int i = 1; i < 4; i++)
		puppet_outb(b->p, 0x21, icw[i]);
	puppet_outb(b->p, 0x21, 0xfe);		/* IRQ 0 only */
	pit_100hz(b);
	while (puppet_irq_taken(b->p) >= 0)
		puppet_outb(b->p, 0x20, 0x20);
	for (int i = 0; i < 100; i++) {
		puppet_clock_step(b->p, MS);
		if (puppet_irq_taken(b->p) == 0x20) {
			ticks++;
			puppet_outb(b->p, 0x20, 0x20);
		}
	}
	assert_in_range(ticks, 9, 11);
}

static void serial_speaks_and_hears(void **state)
{
	struct box *b = *state;

	enable_lapic(b);
	route(b, 4, 0x34);
	for (const char *s = "ok\n"; *s; s++)
		puppet_outb(b->p, 0x3f8, (uint8_t)*s);
	puppet_clock_step(b->p, MS);
	assert_string_equal(b->out, "ok\n");
	puppet_outb(b->p, 0x3fc, 0x0b);		/* DTR RTS OUT2 */
	puppet_outb(b->p, 0x3f9, 0x01);		/* interrupt on receive */
	machine_lock(b->p->m);
	chardev_feed(b->com1, (const uint8_t *)"k", 1);
	machine_unlock(b->p->m);
	puppet_clock_step(b->p, 10 * MS);
	assert_int_equal(puppet_irq_taken(b->p), 0x34);
	assert_int_equal(puppet_inb(b->p, 0x3fd) & 1, 1);
	assert_int_equal(puppet_inb(b->p, 0x3f8), 'k');
	eoi(b);
}

/* The slot of the first function with this vendor and device, or -1. */
static int find(struct box *b, uint32_t id)
{
	for (int slot = 0; slot < 32; slot++)
		if (puppet_pci_read(b->p, 0, slot << 3, 0, 4) == id)
			return slot;
	return -1;
}

static uint64_t bar(struct box *b, unsigned devfn, unsigned n)
{
	uint64_t v = puppet_pci_read(b->p, 0, devfn, 0x10 + 4 * n, 4);

	if ((v & 7) == 4)
		v |= (uint64_t)puppet_pci_read(b->p, 0, devfn, 0x14 + 4 * n, 4) << 32;
	return v & ~15ull;
}

/* A vendor capability of this virtio type (virtio 1.2, 4.1.4), or MSI-X with
 * type 0: its offset. */
static unsigned capability(struct box *b, unsigned devfn, uint8_t id, uint8_t type)
{
	unsigned at = puppet_pci_read(b->p, 0, devfn, 0x34, 1);

	for (int i = 0; at && i < 48; i++) {
		if (puppet_pci_read(b->p, 0, devfn, at, 1) == id &&
		    (!type || puppet_pci_read(b->p, 0, devfn, at + 3, 1) == type))
			return at;
		at = puppet_pci_read(b->p, 0, devfn, at + 1, 1);
	}
	fail_msg("no capability %u/%u", id, type);
	return 0;
}

static uint64_t virtio_area(struct box *b, unsigned devfn, uint8_t type)
{
	unsigned cap = capability(b, devfn, 9, type);

	return bar(b, devfn, puppet_pci_read(b->p, 0, devfn, cap + 4, 1)) +
	       puppet_pci_read(b->p, 0, devfn, cap + 8, 4);
}

/* One buffer of 64 bytes at 0x20000 in a queue of 8 at 0x10000. */
static void make_queue(struct box *b)
{
	static const uint8_t desc[16] = { 0, 0, 2, 0, 0, 0, 0, 0, 64, 0, 0, 0, 2 };
	static const uint8_t avail[] = { 0, 0, 1, 0, 0, 0 };
	uint8_t zero[0x1000] = { 0 };

	puppet_mem_write(b->p, 0x10000, zero, sizeof(zero));
	puppet_mem_write(b->p, 0x20000, zero, 64);
	puppet_mem_write(b->p, 0x10000, desc, sizeof(desc));
	puppet_mem_write(b->p, 0x10400, avail, sizeof(avail));
}

static bool used(void *o)
{
	uint16_t idx;

	puppet_mem_read(o, 0x10802, &idx, 2);
	return idx == 1;
}

static void check_random_bytes(struct box *b)
{
	uint8_t buf[64], zero[64] = { 0 };

	assert_true(puppet_wait(b->p, used, b->p, 5000));
	puppet_mem_read(b->p, 0x20000, buf, 64);
	assert_memory_not_equal(buf, zero, 64);
}

static void rng_over_pci_interrupts_by_message(void **state)
{
	struct box *b = *state;
	int slot = find(b, 0x10441af4);		/* virtio entropy, modern */
	unsigned devfn = (unsigned)slot << 3, cap;
	uint64_t common, notify, table;

	assert_true(slot >= 0);
	assert_int_equal(puppet_pci_read(b->p, 0, 0, 0, 2) == 0xffff, 0);	/* host bridge */
	enable_lapic(b);
	puppet_pci_write(b->p, 0, devfn, 4, 2, 0x406);
	common = virtio_area(b, devfn, 1);
	notify = virtio_area(b, devfn, 2);
	cap = capability(b, devfn, 0x11, 0);
	table = puppet_pci_read(b->p, 0, devfn, cap + 4, 4);
	table = bar(b, devfn, table & 7) + (table & ~7ull);
	puppet_mmio_write32(b->p, table, LAPIC);
	puppet_mmio_write32(b->p, table + 4, 0);
	puppet_mmio_write32(b->p, table + 8, 0x51);
	puppet_mmio_write32(b->p, table + 12, 0);
	puppet_pci_write(b->p, 0, devfn, cap + 2, 2, 0x8000);

	puppet_mmio_write8(b->p, common + 0x14, 3);
	puppet_mmio_write32(b->p, common + 8, 1);
	puppet_mmio_write32(b->p, common + 0xc, 1);	/* VERSION_1 */
	puppet_mmio_write8(b->p, common + 0x14, 11);
	assert_int_equal(puppet_mmio_read8(b->p, common + 0x14), 11);
	make_queue(b);
	puppet_mmio_write16(b->p, common + 0x16, 0);
	puppet_mmio_write16(b->p, common + 0x18, 8);
	puppet_mmio_write16(b->p, common + 0x1a, 0);	/* vector */
	puppet_mmio_write64(b->p, common + 0x20, 0x10000);
	puppet_mmio_write64(b->p, common + 0x28, 0x10400);
	puppet_mmio_write64(b->p, common + 0x30, 0x10800);
	puppet_mmio_write16(b->p, common + 0x1c, 1);
	puppet_mmio_write8(b->p, common + 0x14, 15);
	puppet_mmio_write16(b->p, notify, 0);
	check_random_bytes(b);
	assert_int_equal(puppet_irq_taken(b->p), 0x51);
	eoi(b);
	assert_int_equal(puppet_irq_taken(b->p), -1);
}

static void rng_in_an_mmio_slot_interrupts_by_wire(void **state)
{
	const uint64_t at = 0xd0000000;
	struct box *b = *state;

	enable_lapic(b);
	route(b, 16, 0x8041);			/* level */
	assert_int_equal(puppet_mmio_read32(b->p, at), 0x74726976);
	assert_int_equal(puppet_mmio_read32(b->p, at + 8), 4);
	puppet_mmio_write32(b->p, at + 0x70, 3);
	puppet_mmio_write32(b->p, at + 0x24, 1);
	puppet_mmio_write32(b->p, at + 0x20, 1);
	puppet_mmio_write32(b->p, at + 0x70, 11);
	make_queue(b);
	puppet_mmio_write32(b->p, at + 0x30, 0);
	puppet_mmio_write32(b->p, at + 0x38, 8);
	puppet_mmio_write32(b->p, at + 0x80, 0x10000);
	puppet_mmio_write32(b->p, at + 0x90, 0x10400);
	puppet_mmio_write32(b->p, at + 0xa0, 0x10800);
	puppet_mmio_write32(b->p, at + 0x44, 1);
	puppet_mmio_write32(b->p, at + 0x70, 15);
	puppet_mmio_write32(b->p, at + 0x50, 0);
	check_random_bytes(b);
	assert_int_equal(puppet_irq_taken(b->p), 0x41);
	eoi(b);
	assert_int_equal(puppet_irq_taken(b->p), 0x41);	/* a level: not acknowledged yet */
	assert_int_equal(puppet_mmio_read32(b->p, at + 0x60), 1);
	puppet_mmio_write32(b->p, at + 0x64, 1);
	eoi(b);
	assert_int_equal(puppet_irq_taken(b->p), -1);
}

static void pc_resets_and_powers_off(void **state)
{
	struct box *b = *state;

	puppet_outb(b->p, 0xcf9, 0x06);
	assert_int_equal(puppet_request(b->p, NULL), MACHINE_REQ_RESET);
	puppet_outb(b->p, 0x64, 0xfe);
	assert_int_equal(puppet_request(b->p, NULL), MACHINE_REQ_RESET);
	puppet_outw(b->p, 0x604, 0x2000);	/* SLP_EN, _S5 is 0 */
	assert_int_equal(puppet_request(b->p, NULL), MACHINE_REQ_POWEROFF);
}

static void micro_resets_and_powers_off(void **state)
{
	struct box *b = *state;

	puppet_mmio_write8(b->p, 0xfea00006, 0x42);
	assert_int_equal(puppet_request(b->p, NULL), MACHINE_REQ_RESET);
	puppet_mmio_write8(b->p, 0xfea00004, 0x20 | 5 << 2);
	assert_int_equal(puppet_request(b->p, NULL), MACHINE_REQ_POWEROFF);
}

static void the_power_button_reaches_the_guest(void **state)
{
	struct box *b = *state;

	enable_lapic(b);
	route(b, 9, 0x8039);			/* SCI, level */
	puppet_outb(b->p, 0xb2, 0xf1);		/* ACPI on */
	puppet_outw(b->p, 0x602, 0x100);	/* PWRBTN_EN */
	machine_lock(b->p->m);
	platform_power_button(b->pf);
	machine_unlock(b->p->m);
	assert_int_equal(puppet_irq_taken(b->p), 0x39);
	assert_int_equal(puppet_inw(b->p, 0x600) & 0x100, 0x100);
	puppet_outw(b->p, 0x600, 0x100);
	eoi(b);
	assert_int_equal(puppet_irq_taken(b->p), -1);
}

static void a_second_boot_starts_anew(void **state)
{
	struct box *b = *state;
	uint32_t low;

	enable_lapic(b);
	route(b, 16, 0x8041);
	boot(b);
	puppet_mmio_write32(b->p, IOAPIC, 0x10 + 32);
	low = puppet_mmio_read32(b->p, IOAPIC + 0x10);
	assert_int_equal(low & 0x10000, 0x10000);	/* masked */
	assert_int_equal(puppet_irq_taken(b->p), -1);
}

static void state_survives_save_and_load(void **state)
{
	struct box *b = *state;

	enable_lapic(b);
	route(b, 4, 0x34);
	puppet_outb(b->p, 0x3ff, 0xa5);
	puppet_save_load(b->p);
	assert_int_equal(puppet_inb(b->p, 0x3ff), 0xa5);
	puppet_mmio_write32(b->p, IOAPIC, 0x10 + 8);
	assert_int_equal(puppet_mmio_read32(b->p, IOAPIC + 0x10) & 0xff, 0x34);
	assert_int_equal(puppet_mmio_read32(b->p, LAPIC + 0xf0) & 0x1ff, 0x1ff);
}

#define PC(f) cmocka_unit_test_setup_teardown(f, setup_pc, teardown)
#define MICRO(f) { "micro: " #f, f, setup_micro, teardown, NULL }
int main(void)
{
	const struct CMUnitTest tests[] = {
		PC(pit_ticks_through_the_ioapic),
		PC(pit_ticks_through_the_8259),
		PC(serial_speaks_and_hears),
		PC(rng_over_pci_interrupts_by_message),
		PC(pc_resets_and_powers_off),
		PC(the_power_button_reaches_the_guest),
		PC(a_second_boot_starts_anew),
		PC(state_survives_save_and_load),
		MICRO(serial_speaks_and_hears),
		MICRO(rng_in_an_mmio_slot_interrupts_by_wire),
		MICRO(micro_resets_and_powers_off),
		MICRO(a_second_boot_starts_anew),
		MICRO(state_survives_save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
