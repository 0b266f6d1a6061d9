/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plays the fuzzer's bytes against one device: a sequence of actions, each an
 * operation byte and its operands (missing ones are zero).
 *
 *	port and MMIO reads and writes of every size, mostly where the device is
 *	memory writes, clock steps of 1 ns to 1 s, resets
 *	input wires, message interrupts, taking an interrupt, local APIC MSRs
 *	PCI configuration space
 *	pause and resume; save, damage some bytes, load
 *
 * What is built for each input is torn down with whatever is going on.  The
 * target is chosen when it is compiled: -DFUZZ_TARGET="name".
 */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define MAX_ACTIONS 1024
#define MAX_LONG_STEPS 32
#define LONG_STEP_NS 10000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct play {
	struct fuzz_ctx c;
	const struct fuzz_target *t;
	const uint8_t *d;
	size_t left;
	unsigned long_steps;
	uint32_t last_cfg;		/* PCI address in use */
};

static uint64_t take(struct play *f, unsigned n)
{
	uint64_t v = 0;
	size_t k = MIN(n, f->left);

	memcpy(&v, f->d, k);
	f->d += k;
	f->left -= k;
	return v;
}

/* An address of the wanted bus: inside a range of the device, 1 in 16 anywhere. */
static uint64_t address(struct play *f, bool port)
{
	unsigned pick = (unsigned)take(f, 1);

	for (unsigned i = 0; i < f->c.n_ranges; i++) {
		const struct fuzz_range *r = &f->c.ranges[(pick + i) % f->c.n_ranges];

		if (r->port == port && pick % 16 != 15)
			return r->base + take(f, r->size > 0x10000 ? 4 : r->size > 256 ? 2 : 1) % r->size;
	}
	return take(f, port ? 2 : 8);
}

static void access(struct play *f, uint8_t op, bool port, bool write)
{
	unsigned len = 1u << (op >> 4 & 3);
	uint64_t at = address(f, port), v = 0;

	if (port && len == 8)
		len = 4;
	if (write)
		v = take(f, len);
	if (port)
		puppet_pio(f->c.p->e, (uint16_t)at, &v, len, write);
	else
		puppet_access(f->c.p->e, at, &v, len, write);
}

static void step(struct play *f)
{
	uint8_t how = (uint8_t)take(f, 1);
	int64_t ns = (1ll << (how % 31)) + (int64_t)(take(f, 2) & 0xffff);

	if (ns > LONG_STEP_NS && f->long_steps++ >= MAX_LONG_STEPS)
		ns = LONG_STEP_NS;
	puppet_clock_step(f->c.p, ns);
}

static void memory(struct play *f)
{
	uint64_t size = mem_ram_size(f->c.p->m->mem), at = take(f, 4) % size;
	size_t n = 1 + take(f, 1) % 64;

	n = MIN(n, f->left);
	n = MIN(n, size - at);
	if (n)
		mem_write(f->c.p->m->mem, at, f->d, n);
	f->d += n;
	f->left -= n;
}

static void wire(struct play *f)
{
	uint8_t b = (uint8_t)take(f, 1);

	machine_lock(f->c.p->m);
	if (f->c.n_in)
		irq_set(&f->c.in[(b & 0x7f) % f->c.n_in], b & 0x80);
	machine_unlock(f->c.p->m);
}

static void message(struct play *f)
{
	struct msi msg = { .addr = 0xfee00000 | (take(f, 3) & 0xfffff), .data = (uint32_t)take(f, 4) };

	machine_lock(f->c.p->m);
	machine_msi(f->c.p->m, &msg);
	machine_unlock(f->c.p->m);
}

static void lapic_msr(struct play *f, bool write)
{
	struct vcpu *v = f->c.p->m->vcpus[0];
	uint8_t reg = (uint8_t)take(f, 1);
	uint32_t msr = reg == 0xff ? 0x6e0u : 0x800u + reg;
	uint64_t val = write ? take(f, 8) : 0;

	if (!v->intc)
		return;
	if (reg == 0xfe)
		v->intc->set_base(v->intc_opaque, 0xfee00000u | (val & 0xfff));
	else if (reg == 0xfd)
		v->intc->set_tpr(v->intc_opaque, val & 15);
	else if (reg == 0xfc)
		v->intc->init(v->intc_opaque);
	else if (write)
		v->intc->msr_write(v->intc_opaque, msr, val);
	else
		v->intc->msr_read(v->intc_opaque, msr, &val);
}

static void pci(struct play *f, uint8_t op)
{
	uint32_t where = (uint32_t)take(f, 2);
	unsigned len = 1u << (op >> 4 & 3) & 7;

	if (op & 0x80)
		f->last_cfg = where & 0x3f;	/* another function: 8 slots of 8 */
	len = len ? len : 4;
	if (op & 0x40)
		puppet_pci_read(f->c.p, 0, f->last_cfg, where & 0xff, len);
	else
		puppet_pci_write(f->c.p, 0, f->last_cfg, where & 0xff, len, (uint32_t)take(f, 4));
}

static void die(const char *why)
{
	fprintf(stderr, "fuzz: %s\n", why);
	abort();
}

static void save_load(struct play *f, unsigned damage)
{
	struct machine *m = f->c.p->m;
	struct snap_out *o;
	struct snap_in *in;
	const void *data;
	uint8_t *copy;
	struct err e;
	size_t len;

	if (snap_out_new(&o))
		return;
	machine_lock(m);
	machine_pause_devs(m);
	if (machine_save_devs(m, o, NULL))
		die("saving failed");
	data = snap_out_data(o, &len);
	copy = malloc(len + 1);
	if (len)
		memcpy(copy, data, len);
	for (unsigned i = 0; i < damage && len; i++)
		copy[take(f, 2) % len] = (uint8_t)take(f, 1);
	machine_reset_devs(m);
	if (!snap_in_new(&in, copy, len)) {
		if (machine_load_devs(m, in, &e)) {
			if (!damage)
				die(e.msg);	/* and loading what was saved too */
			f->left = 0;		/* a machine that failed to load is not run */
		}
		snap_in_free(in);
	}
	machine_resume_devs(m);
	machine_unlock(m);
	snap_out_free(o);
	free(copy);
}

static void extra(struct play *f)
{
	uint8_t what = (uint8_t)take(f, 1);
	size_t n = MIN(f->left, 1 + take(f, 1) % 32);

	n = MIN(n, f->left);
	if (f->t->extra)
		f->t->extra(&f->c, what, f->d, n);
	f->d += n;
	f->left -= n;
}

static void boot(struct play *f)
{
	if (f->t->boot)
		f->t->boot(&f->c);
	else
		puppet_reset(f->c.p);
}

static void one_action(struct play *f)
{
	uint8_t op = (uint8_t)take(f, 1);

	switch (op & 15) {
	case 0:
	case 1:
	case 2: access(f, op, true, true); break;
	case 3: access(f, op, true, false); break;
	case 4:
	case 5:
	case 6: access(f, op, false, true); break;
	case 7: access(f, op, false, false); break;
	case 8: step(f); break;
	case 9: memory(f); break;
	case 10: wire(f); break;
	case 11:
		if (op & 0x10)
			message(f);
		else
			puppet_irq_taken(f->c.p);
		break;
	case 12: lapic_msr(f, op & 0x10); break;
	case 13: pci(f, op); break;
	case 14: extra(f); break;
	default:
		if (op & 0x80)
			save_load(f, op >> 5 & 3);
		else if (op & 0x40)
			boot(f);
		else
			puppet_settle(f->c.p);
		break;
	}
}

void fuzz_aim(struct fuzz_ctx *c, bool port, uint64_t base, uint64_t size)
{
	const struct fuzz_range r = { port, base, size };

	for (unsigned i = 0; i < c->n_ranges; i++)
		if (c->ranges[i].port == port && c->ranges[i].base == base)
			return;
	if (c->n_ranges < FUZZ_MAX_RANGES && size)
		c->ranges[c->n_ranges++] = r;
}

static void build(struct play *f)
{
	f->c.p = puppet_new(f->t->ram == UINT64_MAX ? 0 : f->t->ram ? f->t->ram : 65536);
	if (!f->c.p)
		abort();
	for (const struct fuzz_range *r = f->t->ranges; r->size; r++)
		fuzz_aim(&f->c, r->port, r->base, r->size);
	if (f->t->setup(&f->c))
		abort();
	boot(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct play f = { .d = data, .left = size };

	f.t = fuzz_target(FUZZ_TARGET);
	if (!f.t)
		abort();
	build(&f);
	for (unsigned i = 0; f.left && i < MAX_ACTIONS; i++)
		one_action(&f);
	puppet_settle(f.c.p);
	if (f.t->unplug) {
		machine_lock(f.c.p->m);
		machine_free_devs(f.c.p->m);
		f.t->unplug(&f.c);
		machine_unlock(f.c.p->m);
	}
	puppet_free(f.c.p);
	if (f.t->teardown)
		f.t->teardown(&f.c);
	return 0;
}
