/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APICs follow the SDM: priorities, modes, addressing, IPIs, messages,
 * timer, and every #GP of the x2APIC and base MSRs.
 */
#include <unistd.h>

#include "chip.h"

#include "base/bits.h"
#include "chipset/lapic.h"

#define N 4

static struct machine *m;
static struct lapics *set;
static struct vcpu cpu[N];
static unsigned eois;
static uint8_t eoi_vector, ext_vector;
static uint64_t tsc_offset;

/* 2 GHz */
static uint64_t tsc_read(struct vcpu *v)
{
	return (uint64_t)clock_now(v->m->clock) * 2 + tsc_offset;
}

static int64_t tsc_to_ns(struct vcpu *v, uint64_t tsc)
{
	return (int64_t)((tsc - tsc_offset + 1) / 2);
}

static void on_eoi(void *opaque, uint8_t vector)
{
	eois++;
	eoi_vector = vector;
}

static uint8_t on_extint(void *opaque)
{
	struct irq w = lapics_extint(set);

	irq_set(&w, false);		/* the 8259 has nothing more */
	return ext_vector;
}

static void make(struct lapics_config cfg)
{
	cfg.n = N;
	cfg.phys_bits = 40;
	cfg.eoi = on_eoi;
	cfg.extint_ack = on_extint;
	m = machine_make();
	eois = 0;
	tsc_offset = 0;
	ext_vector = 0x20;
	assert_int_equal(lapics_new(m, &cfg, &set), 0);
	for (unsigned i = 0; i < N; i++) {
		memset(&cpu[i], 0, sizeof(cpu[i]));
		cpu[i].m = m;
		cpu[i].id = i;
		cpu[i].tsc_read = tsc_read;
		cpu[i].tsc_to_ns = tsc_to_ns;
		lapics_attach(set, &cpu[i]);
	}
}

static int setup(void **state)
{
	make((struct lapics_config){ 0 });
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static uint32_t rd(int c, uint32_t off)
{
	return cpu[c].intc->mmio_read(cpu[c].intc_opaque, off);
}
static void wr(int c, uint32_t off, uint32_t v)
{
	cpu[c].intc->mmio_write(cpu[c].intc_opaque, off, v);
}
static int rdmsr(int c, uint32_t msr, uint64_t *v)
{
	return cpu[c].intc->msr_read(cpu[c].intc_opaque, msr, v);
}
static int wrmsr(int c, uint32_t msr, uint64_t v)
{
	return cpu[c].intc->msr_write(cpu[c].intc_opaque, msr, v);
}
static uint64_t base(int c)
{
	return cpu[c].intc->get_base(cpu[c].intc_opaque);
}
static int set_base(int c, uint64_t v)
{
	return cpu[c].intc->set_base(cpu[c].intc_opaque, v);
}
static bool pending(int c)
{
	return cpu[c].intc->pending(cpu[c].intc_opaque);
}
static int ack(int c)
{
	return cpu[c].intc->ack(cpu[c].intc_opaque);
}
static void eoi(int c)
{
	wr(c, 0xb0, 0);
}
static void enable_all(void)
{
	for (int i = 0; i < N; i++)
		wr(i, 0xf0, 0x1ff);
}
static int msi(uint64_t addr, uint32_t data)
{
	struct msi msg = { addr, data };
	int r;

	machine_lock(m);
	r = lapics_msi(set, &msg);
	machine_unlock(m);
	return r;
}
/* Who has an interrupt pending, as a bit mask. */
static unsigned who(void)
{
	unsigned mask = 0;

	for (int i = 0; i < N; i++)
		mask |= (unsigned)pending(i) << i;
	return mask;
}
static void drain(void)
{
	for (int i = 0; i < N; i++)
		while (pending(i) && ack(i) >= 0)
			eoi(i);
}
static uint32_t events(int c)
{
	return atomic_exchange(&cpu[c].events, 0);
}
static void x2apic(int c)
{
	assert_int_equal(set_base(c, base(c) | BIT(10)), 0);
}

static void test_power_up(void **state)
{
	assert_int_equal(base(0), 0xfee00900);
	assert_int_equal(base(1), 0xfee00800);
	assert_int_equal(rd(3, 0x20), 3u << 24);
	assert_int_equal(rd(0, 0x30) & 0xff, 0x14);
	assert_int_equal(rd(0, 0x30) >> 16 & 0xff, 5);
	assert_int_equal(rd(0, 0xf0), 0xff);
	assert_int_equal(rd(0, 0xe0), 0xffffffff);
	for (uint32_t off = 0x320; off <= 0x370; off += 0x10)
		assert_int_equal(rd(0, off), 0x10000);
}

static void test_priority(void **state)
{
	enable_all();
	msi(0xfee00000, 0x51);
	msi(0xfee00000, 0x62);
	assert_true(events(0) & VCPU_EV_INTR);
	assert_int_equal(ack(0), 0x62);
	assert_false(pending(0));		/* 0x51 waits for the class in service */
	assert_int_equal(rd(0, 0xa0), 0x60);
	msi(0xfee00000, 0x65);			/* the same class does not nest */
	assert_false(pending(0));
	msi(0xfee00000, 0x71);
	assert_int_equal(ack(0), 0x71);
	eoi(0);
	assert_false(pending(0));
	eoi(0);
	assert_int_equal(ack(0), 0x65);
	eoi(0);
	assert_int_equal(ack(0), 0x51);
	assert_int_equal(rd(0, 0x100 + 0x20), 1u << 17);
	eoi(0);
	assert_int_equal(ack(0), -1);
	assert_int_equal(eois, 0);		/* edge vectors are nobody else's business */
	eoi(0);					/* nothing in service: nothing happens */
}

static void test_tpr(void **state)
{
	enable_all();
	cpu[0].intc->set_tpr(cpu[0].intc_opaque, 6);
	assert_int_equal(rd(0, 0x80), 0x60);
	msi(0xfee00000, 0x6f);
	assert_false(pending(0));
	events(0);
	wr(0, 0x80, 0x5f);
	assert_int_equal(cpu[0].intc->get_tpr(cpu[0].intc_opaque), 5);
	assert_true(events(0) & VCPU_EV_INTR);	/* lowering TPR wakes */
	assert_true(pending(0));
	cpu[0].intc->set_tpr(cpu[0].intc_opaque, 0xf);
	assert_int_equal(ack(0), -1);
}

static void test_level_eoi(void **state)
{
	enable_all();
	msi(0xfee00000, 0xc033);
	assert_int_equal(rd(0, 0x180 + 0x10), 1u << 19);
	assert_int_equal(ack(0), 0x33);
	eoi(0);
	assert_int_equal(eois, 1);
	assert_int_equal(eoi_vector, 0x33);
	wr(0, 0xf0, 0x11ff);			/* EOI broadcast suppression */
	msi(0xfee00000, 0xc033);
	ack(0);
	eoi(0);
	assert_int_equal(eois, 1);
	msi(0xfee00000, 0x33);			/* edge clears TMR */
	assert_int_equal(rd(0, 0x190), 0);
}

static void test_software_disable(void **state)
{
	enable_all();
	wr(0, 0x350, 0x700);
	wr(0, 0xf0, 0xff);
	assert_int_equal(rd(0, 0x350), 0x10700);
	wr(0, 0x350, 0x700);			/* stays masked */
	assert_int_equal(rd(0, 0x350), 0x10700);
	assert_int_equal(msi(0xfee00000, 0x41), -ENXIO);
	assert_false(pending(0));
	assert_int_equal(msi(0xfee00000, 0x400), 0);	/* NMI comes through */
	assert_true(events(0) & VCPU_EV_NMI);
}

static void test_msi_physical(void **state)
{
	enable_all();
	assert_int_equal(msi(0xfee02000, 0x41), 0);
	assert_int_equal(who(), 4);
	drain();
	assert_int_equal(msi(0xfeeff000, 0x41), 0);	/* broadcast */
	assert_int_equal(who(), 0xf);
	drain();
	assert_int_equal(msi(0xfee09000, 0x41), -ENXIO);
	assert_int_equal(msi(0xfed00000, 0x41), -EINVAL);
	assert_int_equal(msi(0x1fee00000, 0x41), -EINVAL);
	assert_int_equal(msi(0xfee01000, 0x502), 0);
	assert_int_equal(events(1) & VCPU_EV_INIT, VCPU_EV_INIT);
	msi(0xfee01000, 0x200);
	assert_int_equal(events(1) & VCPU_EV_SMI, VCPU_EV_SMI);
	assert_int_equal(who(), 0);
}

static void test_msi_logical(void **state)
{
	enable_all();
	for (int i = 0; i < N; i++)
		wr(i, 0xd0, 1u << (24 + i));
	msi(0xfee06004, 0x41);
	assert_int_equal(who(), 6);
	drain();
	/* cluster model */
	for (int i = 0; i < N; i++) {
		wr(i, 0xe0, 0x0fffffff);
		wr(i, 0xd0, (uint32_t)(i / 2) << 28 | 1u << (24 + i % 2));
	}
	msi(0xfee13004, 0x41);
	assert_int_equal(who(), 0xc);
	drain();
	msi(0xfee01004, 0x41);
	assert_int_equal(who(), 1);
	drain();
	msi(0xfee23004, 0x41);
	assert_int_equal(who(), 0);
}

static void test_lowest_priority(void **state)
{
	unsigned seen = 0;

	enable_all();
	for (int i = 0; i < N; i++)
		wr(i, 0xd0, 1u << (24 + i));
	wr(0, 0x80, 0x20);
	wr(3, 0x80, 0x30);
	for (int i = 0; i < 8; i++) {
		msi(0xfee0f00c, 0x141);
		assert_int_equal(__builtin_popcount(who()), 1);
		seen |= who();
		drain();
	}
	assert_int_equal(seen, 6);		/* the two idle ones in turn */
}

static void test_ipi(void **state)
{
	enable_all();
	wr(0, 0x310, 2u << 24);
	wr(0, 0x300, 0x4041);
	assert_int_equal(who(), 4);
	assert_int_equal(rd(0, 0x300), 0x4041);
	assert_int_equal(rd(0, 0x310), 2u << 24);
	drain();
	wr(1, 0x300, 0x44041);			/* self */
	assert_int_equal(who(), 2);
	drain();
	wr(1, 0x300, 0x84041);			/* all */
	assert_int_equal(who(), 0xf);
	drain();
	wr(1, 0x300, 0xc4041);			/* all but self */
	assert_int_equal(who(), 0xd);
	drain();
	for (int i = 0; i < N; i++)
		events(i);
	wr(0, 0x310, 1u << 24);
	wr(0, 0x300, 0x4400);			/* NMI */
	assert_int_equal(events(1), VCPU_EV_NMI);
	wr(0, 0x300, 0xc500);			/* INIT */
	assert_int_equal(events(1), VCPU_EV_INIT);
	wr(0, 0x300, 0x8500);			/* INIT level de-assert: nothing */
	assert_int_equal(events(1), 0);
	wr(0, 0x300, 0x4699);			/* SIPI */
	assert_int_equal(events(1), VCPU_EV_SIPI);
	assert_int_equal(cpu[1].sipi_vector, 0x99);
	wr(0, 0x300, 0xc4500);			/* INIT to all others */
	assert_int_equal(events(0), 0);
	assert_int_equal(events(3), VCPU_EV_INIT);
}

static void test_errors(void **state)
{
	enable_all();
	wr(0, 0x370, 0xfe);
	wr(0, 0x300, 0x4005);			/* vector 5 cannot be sent */
	assert_int_equal(rd(0, 0x280), 0);	/* not before a write */
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), BIT(5));
	assert_int_equal(ack(0), 0xfe);
	eoi(0);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 0);
	msi(0xfee00000, 0x0f);			/* nor received */
	rd(0, 0x3f0 + 0x10);			/* no register */
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), BIT(6) | BIT(7));
	assert_int_equal(ack(0), 0xfe);
	eoi(0);
	assert_int_equal(ack(0), -1);		/* one interrupt until ESR is written */
}

/* Chips may be given the same xAPIC ID; x2APIC mode and disabling end it. */
static void test_written_id(void **state)
{
	uint64_t v;

	enable_all();
	wr(1, 0x20, 0x77u << 24);
	wr(2, 0x20, 0x77u << 24);
	assert_int_equal(rd(1, 0x20), 0x77u << 24);
	msi(0xfee77000, 0x41);
	assert_int_equal(who(), 6);
	drain();
	assert_int_equal(msi(0xfee01000, 0x41), -ENXIO);
	cpu[1].intc->init(cpu[1].intc_opaque);
	assert_int_equal(rd(1, 0x20), 0x77u << 24);	/* INIT keeps it */
	round_trip(m);
	assert_int_equal(rd(1, 0x20), 0x77u << 24);
	x2apic(1);
	rdmsr(1, 0x802, &v);
	assert_int_equal(v, 1);
	set_base(2, 0xfee00000);
	set_base(2, 0xfee00800);
	assert_int_equal(rd(2, 0x20), 2u << 24);
}

static void test_base_msr(void **state)
{
	/* state machine */
	assert_int_equal(set_base(0, 0xfee00400), -EINVAL);	/* invalid mode */
	assert_int_equal(set_base(0, 0xfee00d00), 0);		/* xAPIC -> x2APIC */
	assert_int_equal(set_base(0, 0xfee00900), -EINVAL);	/* back */
	assert_int_equal(set_base(0, 0xfee00500), -EINVAL);
	assert_int_equal(set_base(0, 0xfee00100), 0);		/* disabled */
	assert_false(lapics_enabled(set, 0));
	assert_int_equal(set_base(0, 0xfee00d00), -EINVAL);
	assert_int_equal(set_base(0, 0xfee00900), 0);
	assert_true(lapics_enabled(set, 0));
	/* reserved bits */
	assert_int_equal(set_base(0, 0xfee00901), -EINVAL);
	assert_int_equal(set_base(0, 0xfee00b00), -EINVAL);
	assert_int_equal(set_base(0, 0xfee00900 | BIT64(40)), -EINVAL);
	assert_int_equal(set_base(0, 0x8000000900), 0);		/* moved */
	assert_int_equal(base(0), 0x8000000900);
}

static void test_no_x2apic(void **state)
{
	uint64_t v;

	machine_free(m);
	make((struct lapics_config){ .no_x2apic = true, .no_tsc_deadline = true });
	assert_int_equal(set_base(0, 0xfee00d00), -EINVAL);
	assert_int_equal(rdmsr(0, 0x6e0, &v), -EINVAL);
	assert_int_equal(wrmsr(0, 0x6e0, 0), -EINVAL);
	enable_all();
	wr(0, 0x320, 0x400ff);
	assert_int_equal(rd(0, 0x320), 0xff);
}

/* CR8 works while the chip is off and after it is on again. */
static void test_tpr_over_disable(void **state)
{
	cpu[0].intc->set_tpr(cpu[0].intc_opaque, 7);
	set_base(0, 0xfee00100);
	assert_int_equal(cpu[0].intc->get_tpr(cpu[0].intc_opaque), 7);
	set_base(0, 0xfee00900);
	assert_int_equal(rd(0, 0x80), 0x70);
}

static bool readable(unsigned r)
{
	return r == 2 || r == 3 || r == 8 || r == 0xa || r == 0xd || r == 0xf ||
	       (r >= 0x10 && r < 0x29) || r == 0x30 || (r >= 0x32 && r < 0x3a) || r == 0x3e;
}
static bool writable(unsigned r)
{
	return r == 8 || r == 0xb || r == 0xf || r == 0x28 || r == 0x30 || (r >= 0x32 && r < 0x39) ||
	       r == 0x3e || r == 0x3f;
}

static void test_x2apic_msrs(void **state)
{
	uint64_t v;

	for (unsigned r = 0; r < 0x100; r++) {	/* xAPIC mode: none of them exists */
		assert_int_equal(rdmsr(0, 0x800 + r, &v), -EINVAL);
		assert_int_equal(wrmsr(0, 0x800 + r, 0), -EINVAL);
	}
	x2apic(0);
	for (unsigned r = 0; r < 0x100; r++) {
		if ((rdmsr(0, 0x800 + r, &v) == 0) != readable(r))
			fail_msg("read of %x", 0x800 + r);
		if ((wrmsr(0, 0x800 + r, 0) == 0) != writable(r))
			fail_msg("write of %x", 0x800 + r);
		if (r != 0x30)
			assert_int_equal(wrmsr(0, 0x800 + r, BIT64(32)), -EINVAL);
	}
	wrmsr(0, 0x80f, 0x1ff);
	assert_int_equal(wrmsr(0, 0x808, 0x100), -EINVAL);
	assert_int_equal(wrmsr(0, 0x80b, 1), -EINVAL);
	assert_int_equal(wrmsr(0, 0x828, 1), -EINVAL);
	assert_int_equal(wrmsr(0, 0x80f, 0x2000), -EINVAL);
	assert_int_equal(wrmsr(0, 0x830, BIT(13)), -EINVAL);
	assert_int_equal(wrmsr(0, 0x830, BIT(20)), -EINVAL);
	assert_int_equal(wrmsr(0, 0x832, BIT(8)), -EINVAL);
	assert_int_equal(wrmsr(0, 0x835, BIT(17)), -EINVAL);
	assert_int_equal(wrmsr(0, 0x83e, 4), -EINVAL);
	assert_int_equal(wrmsr(0, 0x83f, 0x100), -EINVAL);
}

static void test_x2apic_ipi(void **state)
{
	uint64_t v;

	for (int i = 0; i < N; i++) {
		x2apic(i);
		wrmsr(i, 0x80f, 0x1ff);
		assert_int_equal(rdmsr(i, 0x802, &v), 0);
		assert_int_equal(v, i);
		rdmsr(i, 0x80d, &v);
		assert_int_equal(v, 1u << i);
	}
	wrmsr(0, 0x830, (2ull << 32) | 0x41);
	rdmsr(0, 0x830, &v);
	assert_int_equal(v, (2ull << 32) | 0x41);
	assert_int_equal(who(), 4);
	assert_int_equal(ack(2), 0x41);
	wrmsr(2, 0x80b, 0);
	wrmsr(0, 0x830, (0xbull << 32) | 0x841);	/* logical, cluster 0 */
	assert_int_equal(who(), 0xb);
	for (int i = 0; i < N; i++)
		while (ack(i) >= 0)
			wrmsr(i, 0x80b, 0);
	wrmsr(0, 0x830, (0x1000bull << 32) | 0x841);	/* cluster 1: nobody */
	assert_int_equal(who(), 0);
	wrmsr(0, 0x830, (0xffffffffull << 32) | 0x41);
	assert_int_equal(who(), 0xf);
	ack(3);
	wrmsr(3, 0x80b, 0);
	wrmsr(3, 0x83f, 0x77);			/* self IPI */
	assert_int_equal(ack(3), 0x77);
}

static void test_timer_oneshot(void **state)
{
	enable_all();
	wr(0, 0x3e0, 0xb);			/* divide by 1 */
	wr(0, 0x320, 0x40);
	wr(0, 0x380, 100000);
	step(m, 40000);
	assert_int_equal(rd(0, 0x390), 60000);
	step(m, 59999);
	assert_false(pending(0));
	step(m, 1);
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	assert_int_equal(rd(0, 0x390), 0);
	assert_int_equal(rd(0, 0x380), 100000);
	step(m, SEC);
	assert_false(pending(0));
	wr(0, 0x320, 0x10040);			/* masked: counts, does not interrupt */
	wr(0, 0x380, 1000);
	step(m, 5000);
	assert_false(pending(0));
	wr(0, 0x320, 0x40);
	wr(0, 0x380, 1000);
	wr(0, 0x380, 0);			/* stopped */
	step(m, 5000);
	assert_false(pending(0));
}

static void test_timer_periodic(void **state)
{
	int n = 0;

	enable_all();
	wr(0, 0x3e0, 0x3);			/* divide by 16 */
	wr(0, 0x320, 0x20040);
	wr(0, 0x380, 62500);			/* 1 ms */
	for (int i = 0; i < 1000; i++) {
		step(m, 100 * US);
		if (ack(0) == 0x40) {
			n++;
			eoi(0);
		}
	}
	assert_int_equal(n, 100);
	step(m, 250 * US);
	assert_int_equal(rd(0, 0x390), 46875);
	wr(0, 0x3e0, 0xb);			/* the count goes on at the new rate */
	assert_int_equal(rd(0, 0x390), 46875);
	step(m, 875);
	assert_int_equal(rd(0, 0x390), 46000);
}

static void test_timer_mode_change(void **state)
{
	enable_all();
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x40);
	wr(0, 0x380, 1000000);
	step(m, 600000);
	wr(0, 0x320, 0x20040);			/* to periodic: not restarted */
	assert_int_equal(rd(0, 0x390), 400000);
	step(m, 500000);
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	assert_int_equal(rd(0, 0x390), 900000);
	wr(0, 0x320, 0x40);			/* to one-shot: counts to zero */
	step(m, 950000);
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	assert_int_equal(rd(0, 0x390), 0);
	wr(0, 0x320, 0x20040);
	assert_int_equal(rd(0, 0x390), 0);	/* stays */
	wr(0, 0x320, 0x40040);
	assert_int_equal(rd(0, 0x380), 0);
	wr(0, 0x380, 55);			/* ignored in deadline mode */
	assert_int_equal(rd(0, 0x380), 0);
}

/* Real time, and a loop that never comes to run the timer's callback: the guest cannot tell. */
static void test_timer_late_loop(void **state)
{
	struct lapics_config cfg = { .n = N, .phys_bits = 40 };
	struct machine *manual = m;
	uint64_t v = 1;

	assert_int_equal(machine_new(&m, false), 0);
	assert_int_equal(lapics_new(m, &cfg, &set), 0);
	cpu[0].m = m;
	lapics_attach(set, &cpu[0]);
	clock_resume(m->clock);
	enable_all();
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x40);
	wr(0, 0x380, 1000);
	while (rd(0, 0x390))
		;
	assert_int_equal(ack(0), 0x40);		/* 0 is seen together with its interrupt */
	eoi(0);
	wr(0, 0x380, 1000);
	usleep(10);
	wr(0, 0x320, 0x20040);			/* expired: nothing goes on counting */
	assert_int_equal(rd(0, 0x390), 0);
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	wr(0, 0x320, 0x40040);
	wrmsr(0, 0x6e0, tsc_read(&cpu[0]) + 2000);
	usleep(10);
	rdmsr(0, 0x6e0, &v);
	assert_int_equal(v, 0);
	assert_int_equal(ack(0), 0x40);
	machine_free(m);
	m = manual;
}

static void test_tsc_deadline(void **state)
{
	uint64_t v;

	enable_all();
	step(m, MS);
	assert_int_equal(wrmsr(0, 0x6e0, 5 * 2 * MS), 0);	/* other mode: ignored */
	rdmsr(0, 0x6e0, &v);
	assert_int_equal(v, 0);
	wr(0, 0x320, 0x40040);
	wrmsr(0, 0x6e0, 5 * 2 * MS);
	rdmsr(0, 0x6e0, &v);
	assert_int_equal(v, 5 * 2 * MS);
	step(m, 4 * MS - 1);
	assert_false(pending(0));
	step(m, 1);
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	rdmsr(0, 0x6e0, &v);
	assert_int_equal(v, 0);
	wrmsr(0, 0x6e0, 1);			/* past: at once */
	assert_int_equal(ack(0), 0x40);
	eoi(0);
	rdmsr(0, 0x6e0, &v);
	assert_int_equal(v, 0);
	wrmsr(0, 0x6e0, 20 * 2 * MS);
	wrmsr(0, 0x6e0, 0);			/* disarmed */
	step(m, SEC);
	assert_false(pending(0));
	wrmsr(0, 0x6e0, UINT64_MAX);		/* never */
	step(m, SEC);
	assert_false(pending(0));
	wr(0, 0x320, 0x40);			/* leaving the mode disarms */
	assert_int_equal(rd(0, 0x390), 0);
}

/* A tiny period cannot keep the host busy. */
static void test_timer_floor(void **state)
{
	int n = 0;

	enable_all();
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x20040);
	wr(0, 0x380, 1);
	for (int i = 0; i < 1000; i++) {
		step(m, 1 * US);
		if (ack(0) >= 0) {
			n++;
			eoi(0);
		}
	}
	assert_in_range(n, 1, 51);
}

static void test_extint(void **state)
{
	struct irq intr = lapics_extint(set);

	wire(&intr, m, true);
	assert_int_equal(who(), 0);		/* LINT0 is masked after power-up */
	wire(&intr, m, false);
	enable_all();
	wr(0, 0x350, 0x700);
	wire(&intr, m, true);
	assert_true(events(0) & VCPU_EV_INTR);
	assert_int_equal(who(), 1);
	assert_int_equal(ack(0), 0x20);
	assert_int_equal(who(), 0);
	assert_int_equal(ack(0), -1);
	/* chip switched off: INTR goes straight to the boot processor */
	set_base(0, 0xfee00100);
	wire(&intr, m, true);
	assert_int_equal(who(), 1);
	assert_int_equal(ack(0), 0x20);
	/* as a fixed interrupt */
	set_base(0, 0xfee00900);
	wr(0, 0xf0, 0x1ff);
	wr(0, 0x350, 0x66);
	wire(&intr, m, true);
	assert_int_equal(ack(0), 0x66);
	eoi(0);
	assert_false(pending(0));
}

static void test_extint_race(void **state)
{
	struct irq intr = lapics_extint(set);

	enable_all();
	wr(0, 0x350, 0x700);
	wr(1, 0x350, 0x700);
	wire(&intr, m, true);
	assert_int_equal(who(), 3);
	assert_int_equal(ack(1), 0x20);
	assert_int_equal(ack(0), -1);		/* the other was faster */
}

static void test_virtual_wire(void **state)
{
	struct irq intr, nmi;

	machine_free(m);
	make((struct lapics_config){ .virtual_wire = true });
	intr = lapics_extint(set);
	nmi = lapics_nmi(set);
	wire(&intr, m, true);
	assert_int_equal(who(), 1);
	assert_int_equal(ack(0), 0x20);
	wire(&nmi, m, true);
	assert_true(events(0) & VCPU_EV_NMI);
	assert_false(events(1) & VCPU_EV_NMI);
	wire(&nmi, m, true);
	assert_false(events(0) & VCPU_EV_NMI);	/* edge */
}

static void test_init(void **state)
{
	x2apic(1);
	wrmsr(1, 0x80f, 0x1ff);
	msi(0xfee01000, 0x41);
	cpu[1].intc->init(cpu[1].intc_opaque);
	assert_false(pending(1));
	assert_int_equal(base(1), 0xfee00c00);	/* INIT keeps the base */
	msi(0xfee01000, 0x41);
	assert_false(pending(1));		/* software-disabled again */
}

static void test_save_midway(void **state)
{
	uint64_t v;

	enable_all();
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x20040);
	wr(0, 0x380, 1000000);
	wr(2, 0x320, 0x40050);
	step(m, 300000);
	wrmsr(2, 0x6e0, 4 * MS);
	msi(0xfee00000, 0xc033);
	msi(0xfee00000, 0x31);
	assert_int_equal(ack(0), 0x33);
	x2apic(3);
	round_trip(m);
	assert_int_equal(base(3), 0xfee00c00);
	assert_int_equal(rdmsr(3, 0x80d, &v), 0);
	assert_int_equal(v, 8);
	assert_int_equal(rd(0, 0x390), 700000);
	assert_false(pending(0));
	eoi(0);
	assert_int_equal(eois, 1);
	assert_int_equal(ack(0), 0x31);
	eoi(0);
	step(m, 700000);
	assert_int_equal(ack(0), 0x40);
	assert_false(pending(2));
	step(m, MS);
	assert_int_equal(ack(2), 0x50);
}

/* A CPU that is not plugged in hears nothing; when it is, its chip is as after power-up. */
static void test_absent(void **state)
{
	struct irq nmi = lapics_nmi(set), intr = lapics_extint(set);

	enable_all();
	for (int i = 0; i < N; i++)
		wr(i, 0xd0, 1u << (24 + i));		/* logical IDs, flat */
	wr(2, 0x350, 0x700);				/* LINT0: ExtINT */
	wr(2, 0x360, 0x400);				/* LINT1: NMI */
	atomic_store(&cpu[2].events, 0);
	atomic_store(&cpu[2].absent, true);
	assert_int_equal(msi(0xfee02000, 0x41), -ENXIO);	/* to it */
	assert_int_equal(msi(0xfeeff000, 0x42), 0);		/* to all */
	assert_int_equal(msi(0xfee0400c, 0x43), -ENXIO);	/* lowest priority, of it alone */
	wr(0, 0x310, 0);
	wr(0, 0x300, 0xc0044);					/* to all but self */
	wr(0, 0x310, 2u << 24);
	wr(0, 0x300, 0x4500);					/* INIT, SIPI */
	wr(0, 0x300, 0x4608);
	wire(&nmi, m, true);
	wire(&intr, m, true);
	assert_int_equal(atomic_load(&cpu[2].events), 0);
	assert_int_equal(atomic_load(&cpu[2].nmis), 0);
	wire(&intr, m, false);
	assert_int_equal(who() & 4, 0);
	assert_int_equal(who() & 0xa, 0xa);
	/* Plugged in. */
	machine_lock(m);
	lapics_power_up(set, 2);
	lapics_power_up(set, 99);
	machine_unlock(m);
	atomic_store(&cpu[2].absent, false);
	assert_int_equal(rd(2, 0xf0), 0xff);
	assert_int_equal(rd(2, 0x350), 0x10000);
	wr(0, 0x300, 0x4500);
	assert_true(atomic_load(&cpu[2].events) & VCPU_EV_INIT);
	wr(2, 0xf0, 0x1ff);
	assert_int_equal(msi(0xfee02000, 0x41), 0);
	assert_int_equal(ack(2), 0x41);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_power_up), T(test_priority), T(test_tpr), T(test_level_eoi), T(test_software_disable),
		T(test_msi_physical), T(test_msi_logical), T(test_lowest_priority), T(test_ipi),
		T(test_errors), T(test_written_id), T(test_base_msr), T(test_no_x2apic), T(test_tpr_over_disable),
		T(test_x2apic_msrs), T(test_x2apic_ipi), T(test_timer_oneshot), T(test_timer_periodic),
		T(test_timer_mode_change), T(test_timer_late_loop), T(test_tsc_deadline), T(test_timer_floor), T(test_extint),
		T(test_extint_race), T(test_virtual_wire), T(test_init), T(test_save_midway), T(test_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
