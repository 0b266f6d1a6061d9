/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI ports (AHCI 1.3.1, 3.3, 5, 6.2): registers, command lists, FISes.
 *
 * A write to CI only wakes the I/O thread, which reads each command's header,
 * FIS and list of memory once into host memory.  A command is answered by
 * ahci_done.  After an error the port takes nothing until the driver clears ST,
 * as the specification has it.
 */
#include "device/ahci_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define FIS_H2D 0x27
#define FIS_D2H 0x34
#define FIS_PIO 0x5f
#define FIS_SDB 0xa1
#define RFIS_PIO 0x20
#define RFIS_D2H 0x40
#define RFIS_SDB 0x58
#define PRDT_MAX 65535u
#define PRDT_BATCH 128u
#define MAX_DATA (64ull << 20)		/* of one command: 65536 blocks of 512, and room */

/* ---- FISes to the driver ---- */

static void put_fis(struct ahci_port *p, unsigned at, const void *fis, unsigned len)
{
	/* 6.1.2: without FRE, or without memory there, it is lost. */
	if (p->cmd & CMD_FRE)
		mem_write(p->a->m->mem, p->fb + at, fis, len);
}

static void d2h(struct ahci_port *p, const uint8_t *cmd, bool irq)
{
	uint8_t f[20] = { FIS_D2H, irq ? 0x40 : 0, (uint8_t)p->tfd, (uint8_t)(p->tfd >> 8) };

	if (cmd) {
		memcpy(f + 4, cmd + 4, 8);
		f[11] = 0;
		memcpy(f + 12, cmd + 12, 2);
	}
	put_fis(p, RFIS_D2H, f, sizeof(f));
}

/* The signature after a reset (SATA 3.0, 11.5): what is on the port. */
static void signature(struct ahci_port *p)
{
	bool cd = p->kind == AHCI_CD;
	uint8_t f[20] = { FIS_D2H, 0, cd ? 0 : ST_DRDY, 1, 1, cd ? 0x14 : 0, cd ? 0xeb : 0, 0, 0, 0, 0, 0, 1 };

	p->tfd = (uint32_t)(1u << 8 | (cd ? 0u : ST_DRDY));
	p->sig = cd ? 0xeb140101 : 0x00000101;
	put_fis(p, RFIS_D2H, f, sizeof(f));
}

/* ---- the end of a command ---- */

void ahci_drop(struct disk_req *q)
{
	struct ahci_req *r = ahci_req_of(q);

	r->p->busy &= ~BIT(r->slot);
	scsi_req_clean(&r->s);
	free(r);
}

static void done_queued(struct ahci_req *r, uint8_t status, uint8_t error)
{
	struct ahci_port *p = r->p;
	uint32_t bit = BIT(r->slot);
	uint8_t f[8] = { FIS_SDB, 0x40, status & 0x77, error };

	if (error) {
		/* ACS-3, 9.10: tag, status, error, where. */
		p->ncq_err[0] = r->slot;
		p->ncq_err[2] = status;
		p->ncq_err[3] = error;
		memcpy(p->ncq_err + 4, r->fis + 4, 8);
		memcpy(p->ncq_err + 12, r->fis + 12, 2);
		p->stopped = true;
		p->is |= IS_TFES;
	} else {
		st_le32(f + 4, bit);
		p->sact &= ~bit;
	}
	/* After an error the registers are its own, whatever ends well later, until the driver has restarted the port. */
	if (error || !p->stopped)
		p->tfd = status | (uint32_t)error << 8;
	put_fis(p, RFIS_SDB, f, sizeof(f));
	p->is |= IS_SDBS;
}

static void done_plain(struct ahci_req *r, uint8_t status, uint8_t error)
{
	struct ahci_port *p = r->p;
	uint64_t header = p->clb + 32ull * r->slot;
	uint8_t bytes[4];

	st_le32(bytes, error ? 0 : r->prdbc);
	mem_write(p->a->m->mem, header + 4, bytes, 4);
	p->tfd = status | (uint32_t)error << 8;
	if (r->pio && !error) {
		uint8_t f[20] = { FIS_PIO, 0x60, ST_DRDY | ST_DRQ, 0 };

		memcpy(f + 4, r->fis + 4, 8);
		f[12] = r->fis[12];
		f[15] = status;
		st_le16(f + 16, (uint16_t)MIN(r->prdbc, 0xffffu));
		put_fis(p, RFIS_PIO, f, sizeof(f));
		p->is |= IS_PSS;
	}
	d2h(p, r->fis, true);
	p->is |= IS_DHRS;
	if (error || status & ST_ERR) {
		p->stopped = true;
		p->is |= IS_TFES;
	} else {
		p->ci &= ~BIT(r->slot);
	}
}

void ahci_done(struct ahci_req *r, uint8_t status, uint8_t error)
{
	struct ahci_port *p = r->p;

	p->busy &= ~BIT(r->slot);
	if (p->cmd & CMD_ST && p->kind) {
		if (r->ncq)
			done_queued(r, status, error);
		else
			done_plain(r, status, error);
		ahci_irq_changed(p->a);
	}
	scsi_req_clean(&r->s);
	free(r);
	/* What waited for this one. */
	if (!p->stopped && p->ci & ~p->busy)
		loop_bh_post(&p->a->kick);
}

/* ---- taking commands ---- */

/* 5.3.2 refers: a structure that is not there stops the port. */
static void fatal(struct ahci_port *p, uint32_t is)
{
	p->stopped = true;
	p->is |= is;
	p->tfd = (p->tfd & ~0xffu) | ST_DRDY | ST_ERR;
	ahci_irq_changed(p->a);
}

/* 4.2.3.3: pieces go to the scratch vector. 0, -EFAULT, -E2BIG */
static int map_prdt(struct ahci_port *p, uint64_t table, unsigned entries, uint64_t *len, unsigned *niov)
{
	uint8_t buf[PRDT_BATCH * 16];
	size_t k = 0;

	*len = 0;
	for (unsigned i = 0; i < entries; i += PRDT_BATCH) {
		unsigned n = MIN(entries - i, PRDT_BATCH);

		if (mem_read(p->a->m->mem, table + 16ull * i, buf, 16ull * n))
			return -EFAULT;
		for (unsigned j = 0; j < n; j++) {
			uint64_t bytes = (ld_le32(buf + 16 * j + 12) & 0x3fffff) + 1ull;
			int ret = mem_map_iov(p->a->m->mem, ld_le64(buf + 16 * j) & ~1ull, bytes & ~1ull, true, p->a->scratch, AHCI_MAX_IOV, &k);

			if (ret)
				return ret;
			*len += bytes & ~1ull;
			if (*len > MAX_DATA)
				return -E2BIG;
		}
	}
	*niov = (unsigned)k;
	return 0;
}

/* SRST: set, then cleared (SATA 3.0, 11.4). */
static void control(struct ahci_port *p, unsigned slot, uint8_t ctl)
{
	p->ci &= ~BIT(slot);
	if (ctl & 4) {
		p->reset_asked = true;
		return;
	}
	if (!p->reset_asked)
		return;
	p->reset_asked = false;
	signature(p);
	p->is |= IS_DHRS;
	ahci_irq_changed(p->a);
}

void ahci_bad_data(struct ahci_req *r)
{
	struct ahci_port *p = r->p;

	p->busy &= ~BIT(r->slot);
	scsi_req_clean(&r->s);
	free(r);
	fatal(p, IS_HBDS);
}

static void take(struct ahci_port *p, unsigned slot)
{
	uint8_t h[32], t[0x80];
	struct ahci_req *r;
	uint64_t len, table;
	unsigned niov;
	uint32_t dw0;
	int ret;

	if (mem_read(p->a->m->mem, p->clb + 32ull * slot, h, sizeof(h))) {
		fatal(p, IS_HBFS);
		return;
	}
	dw0 = ld_le32(h);
	table = ld_le64(h + 8) & ~0x7full;
	if (mem_read(p->a->m->mem, table, t, sizeof(t))) {
		fatal(p, IS_HBFS);
		return;
	}
	if (t[0] != FIS_H2D || (dw0 & 31) < 5) {
		fatal(p, IS_HBFS);
		return;
	}
	if (!(t[1] & 0x80)) {
		control(p, slot, t[15]);
		return;
	}
	/* Commands without data may have a list that nobody looks at: SeaBIOS has 4 MiB at 0 there. */
	ret = map_prdt(p, table + 0x80, dw0 >> 16, &len, &niov);
	if (ret)
		len = niov = 0;
	r = malloc(sizeof(*r) + niov * sizeof(r->iov[0]));
	if (!r) {
		fatal(p, IS_HBDS);
		return;
	}
	memset(r, 0, sizeof(*r));
	r->p = p;
	r->slot = (uint8_t)slot;
	memcpy(r->fis, t, sizeof(r->fis));
	r->unmapped = ret;
	r->len = len;
	r->niov = niov;
	memcpy(r->iov, p->a->scratch, niov * sizeof(r->iov[0]));
	p->busy |= BIT(slot);
	if (p->kind == AHCI_CD && t[2] == 0xa0)
		ahci_packet(r, t + 0x40);
	else
		ahci_ata(r);
}

/* Queued commands run side by side, others alone (ACS-3 forbids to mix them). */
static bool may_take(const struct ahci_port *p, unsigned slot)
{
	return !p->busy || (p->sact & BIT(slot) && !(p->busy & ~p->sact));
}

void ahci_port_run(struct ahci_port *p)
{
	uint32_t todo = p->ci & ~p->busy;

	if (!p->kind || !(p->cmd & CMD_ST))
		return;
	for (; todo; todo &= todo - 1) {
		unsigned slot = (unsigned)__builtin_ctz(todo);

		if (p->stopped || !(p->ci & BIT(slot)) || p->busy & BIT(slot))
			continue;
		if (!may_take(p, slot))
			return;
		p->cmd = (p->cmd & ~0x1f00u) | slot << 8;
		take(p, slot);
	}
}

/* ---- registers ---- */

static void forget(struct ahci_port *p)
{
	if (!p->kind)
		return;
	blk_drain(p->lun.disk.node);
	disk_forget(&p->lun.disk, NULL, NULL, ahci_drop);
}

/* ST goes: what is under way is not told any more, and lists are empty (3.3.7). */
static void stop(struct ahci_port *p)
{
	p->cmd &= ~(CMD_ST | CMD_CR);
	forget(p);
	p->ci = p->sact = p->busy = 0;
	p->stopped = false;
}

static void comreset(struct ahci_port *p)
{
	p->ci = p->sact = 0;
	p->stopped = p->reset_asked = false;
	p->tfd = 0x7f;
	p->sig = UINT32_MAX;
	if (!p->kind)
		return;
	p->multiple = 0;
	memset(p->ncq_err, 0, sizeof(p->ncq_err));
	signature(p);
	p->serr |= BIT(26) | BIT(16);		/* exchanged, PhyRdy changed */
}

void ahci_port_reset(struct ahci_port *p)
{
	p->cmd &= ~CMD_ST;
	forget(p);
	p->busy = 0;
	p->clb = p->fb = 0;
	p->is = p->ie = p->sctl = p->serr = 0;
	p->cmd = p->kind ? 0x6 : 0;			/* spun up, powered */
	p->smart_off = p->no_cache = false;
	comreset(p);
	if (p->kind)
		scsi_lun_reset(&p->lun);
	if (p->kind == AHCI_CD)
		p->cmd |= BIT(24);
}

static void write_cmd(struct ahci_port *p, uint32_t v)
{
	uint32_t keep = p->cmd & (0x1f00u | BIT(24) | CMD_CR | CMD_FR);

	if (p->cmd & CMD_ST && !(v & CMD_ST)) {
		stop(p);
		keep &= ~CMD_CR;
	}
	if (v & CMD_CLO)
		p->tfd &= ~(uint32_t)(ST_BSY | ST_DRQ);
	p->cmd = keep | (v & (CMD_ST | 0x6 | CMD_FRE));
	p->cmd = v & CMD_FRE ? p->cmd | CMD_FR : p->cmd & ~CMD_FR;
	if (v & CMD_ST)
		p->cmd |= CMD_CR;
	/* A drive that is ready says so once there is somewhere to. */
	if (v & CMD_FRE && p->kind && !(keep & CMD_FR) && !(v & CMD_ST) && p->sig != UINT32_MAX && !p->ci)
		signature(p);
}

static void half(uint64_t *reg, bool high, uint32_t v, uint32_t mask)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)v << 32 : (*reg & ~(uint64_t)UINT32_MAX) | (v & mask);
}

void ahci_port_write(struct ahci_port *p, uint32_t off, uint32_t v)
{
	switch (off) {
	case PX_CLB: case PX_CLBU: half(&p->clb, off == PX_CLBU, v, ~0x3ffu); break;
	case PX_FB: case PX_FBU: half(&p->fb, off == PX_FBU, v, ~0xffu); break;
	case PX_IS: p->is &= ~v; break;
	case PX_IE: p->ie = v & 0xfdc000ffu; break;
	case PX_CMD: write_cmd(p, v); break;
	case PX_SCTL:
		/* 10.4.2: DET from 1 back to 0. */
		if ((p->sctl & 15) == 1 && !(v & 15)) {
			forget(p);
			p->busy = 0;
			comreset(p);
		}
		p->sctl = v & 0xfff;
		break;
	case PX_SERR: p->serr &= ~v; break;
	case PX_SACT:
		if (p->cmd & CMD_ST)
			p->sact |= v;
		break;
	case PX_CI:
		if (!(p->cmd & CMD_ST))
			break;
		p->ci |= v;
		loop_bh_post(&p->a->kick);
		break;
	default: break;
	}
}

uint32_t ahci_port_read(const struct ahci_port *p, uint32_t off)
{
	switch (off) {
	case PX_CLB: return (uint32_t)p->clb;
	case PX_CLBU: return (uint32_t)(p->clb >> 32);
	case PX_FB: return (uint32_t)p->fb;
	case PX_FBU: return (uint32_t)(p->fb >> 32);
	case PX_IS: return p->is;
	case PX_IE: return p->ie;
	case PX_CMD: return p->cmd;
	case PX_TFD: return p->tfd | (p->busy & ~p->sact ? ST_BSY : 0);
	case PX_SIG: return p->sig;
	case PX_SSTS: return !p->kind ? 0 : (p->sctl & 15) == 4 ? 4 : 0x113;
	case PX_SCTL: return p->sctl;
	case PX_SERR: return p->serr;
	case PX_SACT: return p->sact;
	case PX_CI: return p->ci;
	default: return 0;
	}
}
