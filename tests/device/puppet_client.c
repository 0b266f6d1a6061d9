/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See puppet_client.h. */
#include "puppet_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* Also linked into fuzzers, where there is no test to fail: stop loudly. */
static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "puppet: %s\n", what);
	abort();
}

static int record_msi(void *opaque, const struct msi *msg)
{
	struct puppet *p = opaque;

	if (p->n_msis == PUPPET_MAX_MSIS)
		memmove(p->msis, p->msis + 1, --p->n_msis * sizeof(p->msis[0]));
	p->msis[p->n_msis++] = *msg;
	return 0;
}

static void record_request(void *opaque, enum machine_request req, int code)
{
	struct puppet *p = opaque;

	p->request = req;
	p->request_code = code;
}

struct puppet *puppet_new(uint64_t ram)
{
	const struct cpu_engine_config cfg = { .n_vcpus = 1 };
	struct puppet *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	if (machine_new(&p->m, true))
		goto fail;
	if (cpu_engine_puppet.init(p->m, &cfg, &p->e, NULL) ||
	    cpu_engine_puppet.vcpu_create(p->e, 0, NULL) ||
	    (ram && (mem_create_ram(p->m->mem, ram, MEM_HUGE_NONE, NULL) ||
		     mem_add_ram(p->m->mem, "ram", 0, 0, ram, NULL))))
		goto fail;
	p->m->n_vcpus = 1;
	p->m->msi = record_msi;
	p->m->msi_opaque = p;
	p->m->request = record_request;
	p->m->request_opaque = p;
	return p;

fail:
	puppet_free(p);
	return NULL;
}

void puppet_free(struct puppet *p)
{
	if (!p)
		return;
	if (p->m) {
		machine_lock(p->m);
		machine_free_devs(p->m);
		machine_unlock(p->m);
		if (p->e)
			p->e->ops->free(p->e);
		machine_free(p->m);
	}
	free(p);
}

void puppet_settle(struct puppet *p)
{
	for (int i = 0; i < 4; i++)	/* doorbell, posted callback, completion, interrupt */
		must(!loop_turn(p->m->loop, 0), "the loop failed");
}

bool puppet_wait(struct puppet *p, bool (*done)(void *opaque), void *opaque, int ms)
{
	int64_t end = loop_now_ns() + ms * 1000000ll;

	puppet_settle(p);
	while (!done(opaque)) {
		if (loop_now_ns() >= end)
			return false;
		must(!loop_turn(p->m->loop, 10), "the loop failed");
	}
	return true;
}

void puppet_reset(struct puppet *p)
{
	machine_lock(p->m);
	machine_reset_devs(p->m);
	machine_unlock(p->m);
	puppet_settle(p);
}

void puppet_save_load(struct puppet *p)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	const void *data;
	size_t len;

	must(!snap_out_new(&o), "no memory");
	machine_lock(p->m);
	machine_pause_devs(p->m);
	must(!machine_save_devs(p->m, o, NULL), "saving the devices failed");
	data = snap_out_data(o, &len);
	must(!snap_in_new(&in, data, len), "no memory");
	machine_reset_devs(p->m);
	must(!machine_load_devs(p->m, in, &e), e.msg);
	machine_resume_devs(p->m);
	machine_unlock(p->m);
	snap_in_free(in);
	snap_out_free(o);
	puppet_settle(p);
}

/* Accesses. */

static uint64_t pio(struct puppet *p, uint16_t port, unsigned len, bool write, uint64_t v)
{
	puppet_pio(p->e, port, &v, len, write);
	puppet_settle(p);
	return v;
}

static uint64_t mmio(struct puppet *p, uint64_t gpa, unsigned len, bool write, uint64_t v)
{
	puppet_access(p->e, gpa, &v, len, write);
	puppet_settle(p);
	return v;
}

uint8_t puppet_inb(struct puppet *p, uint16_t port)
{
	return (uint8_t)pio(p, port, 1, false, 0);
}
uint16_t puppet_inw(struct puppet *p, uint16_t port)
{
	return (uint16_t)pio(p, port, 2, false, 0);
}
uint32_t puppet_inl(struct puppet *p, uint16_t port)
{
	return (uint32_t)pio(p, port, 4, false, 0);
}
void puppet_outb(struct puppet *p, uint16_t port, uint8_t v)
{
	pio(p, port, 1, true, v);
}
void puppet_outw(struct puppet *p, uint16_t port, uint16_t v)
{
	pio(p, port, 2, true, v);
}
void puppet_outl(struct puppet *p, uint16_t port, uint32_t v)
{
	pio(p, port, 4, true, v);
}

uint8_t puppet_mmio_read8(struct puppet *p, uint64_t gpa)
{
	return (uint8_t)mmio(p, gpa, 1, false, 0);
}
uint16_t puppet_mmio_read16(struct puppet *p, uint64_t gpa)
{
	return (uint16_t)mmio(p, gpa, 2, false, 0);
}
uint32_t puppet_mmio_read32(struct puppet *p, uint64_t gpa)
{
	return (uint32_t)mmio(p, gpa, 4, false, 0);
}
uint64_t puppet_mmio_read64(struct puppet *p, uint64_t gpa)
{
	return mmio(p, gpa, 8, false, 0);
}
void puppet_mmio_write8(struct puppet *p, uint64_t gpa, uint8_t v)
{
	mmio(p, gpa, 1, true, v);
}
void puppet_mmio_write16(struct puppet *p, uint64_t gpa, uint16_t v)
{
	mmio(p, gpa, 2, true, v);
}
void puppet_mmio_write32(struct puppet *p, uint64_t gpa, uint32_t v)
{
	mmio(p, gpa, 4, true, v);
}
void puppet_mmio_write64(struct puppet *p, uint64_t gpa, uint64_t v)
{
	mmio(p, gpa, 8, true, v);
}

void puppet_mem_read(struct puppet *p, uint64_t gpa, void *buf, size_t len)
{
	must(!mem_read(p->m->mem, gpa, buf, len), "read outside RAM");
}

void puppet_mem_write(struct puppet *p, uint64_t gpa, const void *buf, size_t len)
{
	must(!mem_write(p->m->mem, gpa, buf, len), "write outside RAM");
}

static void pci_select(struct puppet *p, unsigned bus, unsigned devfn, unsigned off)
{
	puppet_outl(p, 0xcf8, BIT(31) | (bus & 0xff) << 16 | (devfn & 0xff) << 8 | (off & 0xfc));
}

uint32_t puppet_pci_read(struct puppet *p, unsigned bus, unsigned devfn, unsigned off, unsigned len)
{
	pci_select(p, bus, devfn, off);
	return (uint32_t)pio(p, (uint16_t)(0xcfc + (off & 3)), len, false, 0);
}

void puppet_pci_write(struct puppet *p, unsigned bus, unsigned devfn, unsigned off, unsigned len,
		      uint32_t v)
{
	pci_select(p, bus, devfn, off);
	pio(p, (uint16_t)(0xcfc + (off & 3)), len, true, v);
}

void puppet_clock_step(struct puppet *p, int64_t ns)
{
	machine_lock(p->m);
	clock_step(p->m->clock, ns);
	machine_unlock(p->m);
	puppet_settle(p);
}

/* Interrupts. */

static void record_wire(void *opaque, int n, bool level)
{
	struct puppet *p = opaque;
	struct puppet_wire *w = &p->wires[n];

	if (level && !w->level)
		w->rises++;
	if (!level && w->level)
		w->falls++;
	w->level = level;
}

struct irq puppet_wire(struct puppet *p, int n)
{
	must(n >= 0 && n < PUPPET_WIRES, "no such wire");
	return (struct irq){ .set = record_wire, .opaque = p, .n = n };
}

bool puppet_wire_is_high(struct puppet *p, int n)
{
	return p->wires[n].level;
}

unsigned puppet_wire_rises(struct puppet *p, int n)
{
	unsigned r = p->wires[n].rises;

	p->wires[n].rises = 0;
	return r;
}

int puppet_irq_taken(struct puppet *p)
{
	return puppet_irq(p->e);
}

bool puppet_msi_taken(struct puppet *p, struct msi *out)
{
	if (!p->n_msis)
		return false;
	*out = p->msis[0];
	memmove(p->msis, p->msis + 1, --p->n_msis * sizeof(p->msis[0]));
	return true;
}

enum machine_request puppet_request(struct puppet *p, int *code)
{
	enum machine_request r = p->request;

	if (code)
		*code = p->request_code;
	p->request = MACHINE_REQ_NONE;
	return r;
}
