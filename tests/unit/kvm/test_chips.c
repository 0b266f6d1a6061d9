// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: what KVM's interrupt chips are saved as is what chipset/'s chips load,
 * and the other way round, with every field; conversions to KVM's form and back
 * lose nothing that a guest could tell, and nonsense is refused.
 */
#include "unit.h"

#include "base/bits.h"
#include "chipset/i8259.h"
#include "chipset/i82093aa.h"
#include "chipset/lapic.h"
#include "cpu/kvm/chips.h"
#include "machine/machine.h"

#define NOW 1000000000ll

static struct machine *m;
static struct lapics *lapics;
static struct i8259 *pic;
static struct i82093aa *ioapic;

static int setup(void **state)
{
	const struct lapics_config lc = { .n = 1 };
	const struct i8259_config pc = { .master = 0x20, .slave = 0xa0, .elcr = 0x4d0 };
	const struct i82093aa_config ic = { .base = 0xfec00000 };

	assert_int_equal(machine_new(&m, false), 0);
	assert_int_equal(lapics_new(m, &lc, &lapics), 0);
	assert_int_equal(i8259_new(m, &pc, &pic), 0);
	assert_int_equal(i82093aa_new(m, &ic, &ioapic), 0);
	clock_pause(m->clock);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

struct all {
	struct kvm_saved_lines lines;
	struct kvm_saved_lapic lapic;
	struct kvm_saved_pic pic[2];
	struct kvm_saved_ioapic ioapic;
};

static void put(struct snap_out *o, const struct all *a)
{
	assert_int_equal(snap_put(o, "pc.lapic", &kvm_lines_table, &a->lines), 0);
	assert_int_equal(snap_put(o, "lapic.0", &kvm_lapic_table, &a->lapic), 0);
	assert_int_equal(snap_put(o, "pc.i8259.master", &kvm_pic_table, &a->pic[0]), 0);
	assert_int_equal(snap_put(o, "pc.i8259.slave", &kvm_pic_table, &a->pic[1]), 0);
	assert_int_equal(snap_put(o, "pc.i82093aa", &kvm_ioapic_table, &a->ioapic), 0);
}

static void get(struct snap_in *in, struct all *a)
{
	struct err e = { "" };

	memset(a, 0, sizeof(*a));
	assert_int_equal(snap_get(in, "pc.lapic", &kvm_lines_table, &a->lines, &e), 0);
	assert_int_equal(snap_get(in, "lapic.0", &kvm_lapic_table, &a->lapic, &e), 0);
	assert_int_equal(snap_get(in, "pc.i8259.master", &kvm_pic_table, &a->pic[0], &e), 0);
	assert_int_equal(snap_get(in, "pc.i8259.slave", &kvm_pic_table, &a->pic[1], &e), 0);
	assert_int_equal(snap_get(in, "pc.i82093aa", &kvm_ioapic_table, &a->ioapic, &e), 0);
}

static struct kvm_lapic_state regs(uint32_t timer_lvt, uint32_t count, uint32_t left)
{
	struct kvm_lapic_state k = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		st_le32(k.regs + 0x100 + 16 * i, i ? 0x01020304u << i : 0x10000);
		st_le32(k.regs + 0x180 + 16 * i, 0x11000000u >> i);
		st_le32(k.regs + 0x200 + 16 * i, i ? 0x80402010u + i : 0x30000);
	}
	st_le32(k.regs + 0x20, 5u << 24);
	st_le32(k.regs + 0x80, 0x20);
	st_le32(k.regs + 0xd0, 0x02000000);
	st_le32(k.regs + 0xe0, 0xffffffff);
	st_le32(k.regs + 0xf0, 0x1ff);
	st_le32(k.regs + 0x300, 0x000c00fd);
	st_le32(k.regs + 0x310, 0x01000000);
	for (unsigned i = 1; i < 6; i++)
		st_le32(k.regs + 0x320 + 16 * i, 0x10000 + i);
	st_le32(k.regs + 0x320, timer_lvt);
	st_le32(k.regs + 0x380, count);
	st_le32(k.regs + 0x390, left);
	st_le32(k.regs + 0x3e0, 3);	/* by 16 */
	return k;
}

static const struct kvm_pic_state a_pic = {
	.last_irr = 0x91, .irr = 0x90, .imr = 0x0f, .isr = 0x20, .priority_add = 3, .irq_base = 0x30, .read_reg_select = 1,
	.special_mask = 1, .init_state = 2, .auto_eoi = 1, .rotate_on_auto_eoi = 1, .special_fully_nested_mode = 1, .init4 = 1, .poll = 1, .elcr = 0x98,
	.elcr_mask = 0xf8,
};

static struct kvm_ioapic_state an_ioapic(void)
{
	struct kvm_ioapic_state k = { .base_address = 0xfec00000, .ioregsel = 0x14, .id = 3, .irr = BIT(5) };

	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		k.redirtbl[i].bits = 0x10000 | i;
	k.redirtbl[5].bits = 0x0300000000008935;	/* level, low, logical */
	k.redirtbl[6].bits = 0x010000000000c036;	/* level, in service */
	return k;
}

/* KVM's state through the chips of chipset/ and back. */
static void formats_agree(void **state)
{
	struct kvm_lapic_state lapic = regs(0x200ef, 1000, 400), lapic2 = { 0 };
	struct kvm_ioapic_state io = an_ioapic(), io2;
	struct kvm_pic_state p[2], p2;
	struct all a = { .lines = { .intr = 0 } }, b;
	struct err e = { "" };
	struct snap_out *o;
	struct snap_in *in;
	const char *who;
	const void *bytes;
	size_t len;

	for (unsigned i = 0; i < 2; i++) {
		p[i] = a_pic;
		p[i].elcr_mask = i ? 0xde : 0xf8;
		kvm_pic_to_saved(&p[i], &a.pic[i]);
	}
	clock_set(m->clock, NOW);
	kvm_lapic_to_saved(&lapic, 0xfee00900, 0, NOW, &a.lapic);
	kvm_ioapic_to_saved(&io, &a.ioapic);
	assert_int_equal(snap_out_new(&o), 0);
	put(o, &a);
	bytes = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, bytes, len), 0);
	assert_int_equal(machine_load_devs(m, in, &e), 0);
	assert_int_equal(snap_in_left(in), 0);
	snap_in_free(in);
	snap_out_free(o);

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(m, o, &who), 0);
	bytes = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, bytes, len), 0);
	get(in, &b);
	assert_int_equal(snap_in_left(in), 0);
	snap_in_free(in);
	snap_out_free(o);

	assert_memory_equal(&a.lapic, &b.lapic, sizeof(a.lapic));
	assert_memory_equal(&a.ioapic, &b.ioapic, sizeof(a.ioapic));
	assert_int_equal(kvm_lapic_of_saved(&lapic2, &b.lapic, 0, NOW, true, &e), 0);
	assert_memory_equal(&lapic, &lapic2, sizeof(lapic));
	kvm_ioapic_of_saved(&io2, &b.ioapic);
	assert_memory_equal(&io, &io2, sizeof(io));
	/* The cascade, which follows from the slave, is the master's input 2. */
	for (unsigned i = 0; i < 2; i++) {
		kvm_pic_of_saved(&p2, &b.pic[i], i == 0);
		assert_memory_equal(&p[i], &p2, sizeof(p2));
	}
}

static void timers(void **state)
{
	struct kvm_lapic_state k = regs(0x200ef, 1000, 400), k2 = { 0 };
	struct kvm_saved_lapic s;
	struct err e = { "" };

	/* Periodic, divided by 16: 400 counts are left of 1000; a while later fewer. */
	kvm_lapic_to_saved(&k, 0xfee00900, 77, NOW, &s);
	assert_int_equal(s.running, 1);
	assert_int_equal(s.due_ns, NOW + 6400);
	assert_int_equal(s.start_ns, NOW - 9600);
	assert_int_equal(s.tsc_deadline, 0);
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW + 1600, true, &e), 0);
	assert_int_equal(ld_le32(k2.regs + 0x390), 300);
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW + 100000, true, &e), 0);
	assert_int_equal(ld_le32(k2.regs + 0x390), 0);
	/* One-shot and over: due at once, since its interrupt may not have been raised. */
	k = regs(0xef, 1000, 0);
	kvm_lapic_to_saved(&k, 0xfee00900, 0, NOW, &s);
	assert_true(s.running && s.due_ns == NOW);
	/* That never was: nothing begins. */
	s.running = 0;
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, true, &e), 0);
	assert_int_equal(ld_le32(k2.regs + 0x380), 0);
	/* Deadline. */
	k = regs(0x400ef, 0, 0);
	kvm_lapic_to_saved(&k, 0xfee00d00, 0x123456789, NOW, &s);
	assert_true(s.running && s.tsc_deadline == 0x123456789);
	kvm_lapic_to_saved(&k, 0xfee00d00, 0, NOW, &s);
	assert_true(!s.running && !s.tsc_deadline);
}

static void odd_ones(void **state)
{
	struct kvm_lapic_state k = regs(0x200ef, 1000, 400), k2 = { 0 };
	struct kvm_saved_lapic s, good;
	struct kvm_saved_ioapic io = { .lines = BIT(3) | BIT(4), .rte = { [3] = 0x38, [4] = 0x8039 } };
	struct kvm_ioapic_state ki;
	struct err e = { "" };

	kvm_lapic_to_saved(&k, 0xfee00900, 0, NOW, &good);
	s = good;
	s.base = 0xfee00400;		/* x2APIC, and not enabled */
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, true, &e), -EINVAL);
	s = good;
	s.tmict = 0;
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, true, &e), -EINVAL);
	s = good;
	s.due_ns = -1;
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, true, &e), -EINVAL);
	s = good;
	s.svr |= BIT(12);
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, true, &e), -ENOTSUP);
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 0, NOW, false, &e), 0);
	/* Vectors below 16 do not exist; in x2APIC mode the ID is the CPU's. */
	s = good;
	s.irr[0] = s.isr[0] = ~0u;
	s.base = 0xfee00d00;
	assert_int_equal(kvm_lapic_of_saved(&k2, &s, 9, NOW, true, &e), 0);
	assert_int_equal(ld_le32(k2.regs + 0x100), 0xffff0000);
	assert_int_equal(ld_le32(k2.regs + 0x200), 0xffff0000);
	assert_int_equal(ld_le32(k2.regs + 0x20), 9u << 24);
	/* A pin that is high: a level comes again, an edge does not. */
	kvm_ioapic_of_saved(&ki, &io);
	assert_int_equal(ki.irr, BIT(4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(formats_agree, setup, teardown),
		cmocka_unit_test(timers),
		cmocka_unit_test(odd_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
