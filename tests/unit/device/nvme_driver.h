/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for tests of the NVMe controller: a machine without CPU, a PCI root,
 * the controller with two namespaces on memory, queues in guest memory.
 */
#ifndef LODGE_TESTS_NVME_DRIVER_H
#define LODGE_TESTS_NVME_DRIVER_H

#include "card.h"

#include "device/nvme.h"
#include "pci/pci.h"

#define RAM (16u << 20)
#define ECAM 0xe0000000ull
#define BAR 0xc0000000ull
#define NS_SIZE (4u << 20)
#define QUEUE(q) (0x100000u + (q) * 0x20000u)	/* submission; completion 64 KiB behind */
#define CQ(q) (QUEUE(q) + 0x10000u)
#define DATA 0x800000u
#define LIST 0x700000u
#define DNR 0x4000
#define ENTRIES 16

struct nv {
	struct machine *m;
	struct nvme *n;
	struct blk_node *node[2];
	uint8_t *ram;
	struct iothread *io;
	unsigned irqs, pauses;
	bool pin;
	uint16_t cid;
	struct { uint32_t tail, head, size; bool phase; } q[8];
};

/* A submission queue entry. */
struct sqe {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

static inline int nv_msi(void *opaque, const struct msi *msg)
{
	((struct nv *)opaque)->irqs++;
	return 0;
}

static inline void nv_pin(void *opaque, int k, bool level)
{
	((struct nv *)opaque)->pin = level;
}

static inline void nv_request(void *opaque, enum machine_request req, int code)
{
	((struct nv *)opaque)->pauses += req == MACHINE_REQ_PAUSE;
}

static inline uint64_t nv_rd(struct nv *v, uint32_t off, unsigned len)
{
	uint8_t b[8] = { 0 };

	bus_access(v->m->mmio, BAR + off, b, len, false);
	return ld_le(b, len);
}

static inline void nv_wr(struct nv *v, uint32_t off, unsigned len, uint64_t x)
{
	uint8_t b[8];

	st_le64(b, x);
	bus_access(v->m->mmio, BAR + off, b, len, true);
}

/* BAR, decoding, MSI-X with all vectors open. */
static inline void nv_place(struct nv *v, bool msix)
{
	struct pci_dev *p;

	machine_lock(v->m);
	p = (struct pci_dev *)v->n;
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)BAR);
	pci_config_write(p, PCI_BAR(1), 4, 0);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	if (msix)
		pci_config_write(p, p->msix_cap + 2u, 2, 0x8000);
	machine_unlock(v->m);
	for (unsigned i = 0; msix && i < 5; i++) {
		nv_wr(v, 0x2000 + 16 * i, 4, 0xfee00000);
		nv_wr(v, 0x2000 + 16 * i + 12, 4, 0);
	}
}

static inline struct nv *nv_new(bool io, const struct disk_opts *dopts)
{
	struct pci_root_config cfg = { .ecam_base = ECAM, .ecam_buses = 1 };
	struct nvme_opts o = { .serial = "LODGE1", .queues = 4 };
	struct disk_opts d = dopts ? *dopts : (struct disk_opts){ 0 };
	struct nv *v = calloc(1, sizeof(*v));
	struct pci_bus *root;
	struct err e = { 0 };

	v->m = card_machine(RAM, nv_msi, v);
	v->ram = mem_ram_host(v->m->mem);
	v->m->request = nv_request;
	v->m->request_opaque = v;
	cfg.intx[0] = cfg.intx[1] = cfg.intx[2] = cfg.intx[3] = (struct irq){ .set = nv_pin, .opaque = v };
	if (io)
		assert_int_equal(iothread_new(v->m, "io", &v->io), 0);
	o.io = d.io = v->io;
	machine_lock(v->m);
	assert_int_equal(pci_root_new(v->m, &cfg, &root, &e), 0);
	assert_int_equal(nvme_new(v->m, root, PCI_DEVFN(3, 0), "nv0", &o, &v->n, &e), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(blk_open_mem(io ? iothread_loop(v->io) : v->m->loop, NS_SIZE, &v->node[i]), 0);
		v->node[i]->i.can_discard = v->node[i]->i.can_zero = true;
		assert_int_equal(nvme_add_ns(v->n, i ? "disk1" : "disk0", v->node[i], &d, &e), 0);
		d.block_size = 4096;
	}
	machine_unlock(v->m);
	nv_place(v, true);
	return v;
}

static inline void nv_free(struct nv *v)
{
	machine_lock(v->m);
	machine_free_devs(v->m);
	machine_unlock(v->m);
	iothread_free(v->io);
	machine_free(v->m);
	free(v);
}

static inline void nv_settle(struct nv *v)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_turn(v->m->loop, v->io ? 1 : 0), 0);
}

static inline void nv_bell(struct nv *v, unsigned q, bool head, uint32_t x)
{
	nv_wr(v, 0x1000 + 8 * q + 4 * head, 4, x);
}

/* Into the queue, without the doorbell; returns the command's id. */
static inline uint16_t nv_put(struct nv *v, unsigned q, struct sqe s)
{
	s.cid = ++v->cid;
	memcpy(v->ram + QUEUE(q) + v->q[q].tail * 64, &s, 64);
	v->q[q].tail = (v->q[q].tail + 1) % v->q[q].size;
	return s.cid;
}

static inline uint16_t nv_send(struct nv *v, unsigned q, struct sqe s)
{
	uint16_t cid = nv_put(v, q, s);

	nv_bell(v, q, false, v->q[q].tail);
	return cid;
}

/* The next completion, if there is one; its queue's head doorbell is rung. */
static inline bool nv_next(struct nv *v, unsigned q, uint16_t *cid, int *status, uint32_t *dw0)
{
	uint8_t *e = v->ram + CQ(q) + v->q[q].head * 16;
	uint32_t last = __atomic_load_n((uint32_t *)(void *)(e + 12), __ATOMIC_ACQUIRE);

	if ((last >> 16 & 1) != v->q[q].phase)
		return false;
	*cid = (uint16_t)last;
	*status = (int)(last >> 17);
	if (dw0)
		*dw0 = ld_le32(e);
	if (++v->q[q].head == v->q[q].size) {
		v->q[q].head = 0;
		v->q[q].phase = !v->q[q].phase;
	}
	nv_bell(v, q, true, v->q[q].head);
	return true;
}

/* Waits for one completion; its status. */
static inline int nv_wait(struct nv *v, unsigned q, uint16_t *cid, uint32_t *dw0)
{
	uint16_t id;
	int status;

	for (int i = 0; i < 5000; i++) {
		if (nv_next(v, q, &id, &status, dw0)) {
			if (cid)
				*cid = id;
			return status;
		}
		assert_int_equal(loop_turn(v->m->loop, 1), 0);
	}
	fail_msg("queue %u: nothing came back", q);
	return -1;
}

static inline int nv_do(struct nv *v, unsigned q, struct sqe s, uint32_t *dw0)
{
	uint16_t cid = nv_send(v, q, s), got = 0;
	int status = nv_wait(v, q, &got, dw0);

	assert_int_equal(got, cid);
	return status;
}

static inline int nv_admin(struct nv *v, uint8_t opcode, uint32_t nsid, uint64_t prp1, uint32_t cdw10, uint32_t cdw11, uint32_t *dw0)
{
	return nv_do(v, 0, (struct sqe){ .opcode = opcode, .nsid = nsid, .prp1 = prp1, .cdw10 = cdw10, .cdw11 = cdw11 }, dw0);
}

static inline void nv_queue_fresh(struct nv *v, unsigned q, uint32_t size)
{
	memset(v->ram + QUEUE(q), 0, 0x20000);
	v->q[q].tail = v->q[q].head = 0;
	v->q[q].size = size;
	v->q[q].phase = true;
}

static inline void nv_enable(struct nv *v)
{
	nv_queue_fresh(v, 0, ENTRIES);
	nv_wr(v, 0x24, 4, (ENTRIES - 1) | (ENTRIES - 1) << 16);
	nv_wr(v, 0x28, 8, QUEUE(0));
	nv_wr(v, 0x30, 4, CQ(0));
	nv_wr(v, 0x34, 4, 0);
	nv_wr(v, 0x14, 4, 0x460001);
	assert_int_equal(nv_rd(v, 0x1c, 4), 1);
}

static inline int nv_create(struct nv *v, unsigned q, uint32_t size)
{
	int status;

	nv_queue_fresh(v, q, size);
	status = nv_admin(v, 5, 0, CQ(q), q | (size - 1) << 16, 3 | q << 16, NULL);
	return status ? status : nv_admin(v, 1, 0, QUEUE(q), q | (size - 1) << 16, 1 | q << 16, NULL);
}

static inline void nv_start(struct nv *v)
{
	nv_enable(v);
	assert_int_equal(nv_create(v, 1, ENTRIES), 0);
}

static inline struct sqe nv_rw(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t blocks, uint64_t prp1, uint64_t prp2)
{
	return (struct sqe){ .opcode = opcode, .nsid = nsid, .prp1 = prp1, .prp2 = prp2, .cdw10 = (uint32_t)slba,
			     .cdw11 = (uint32_t)(slba >> 32), .cdw12 = blocks - 1 };
}

#endif
