/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers of the 82574L: what is remembered, what does something, and the PHY
 * and NVM behind them.
 *
 * The table `plain` lists registers that are remembered, with the bits a write
 * reaches; what is neither there nor in the switches reads as zero.
 */
#include "device/e1000e_int.h"

#include <string.h>

#define STATUS_FD 0x1u
#define STATUS_LU 0x2u
#define STATUS_1000 0x80u
#define STATUS_GIO_MASTER BIT(19)
#define STATUS_FIXED 0x200u			/* LAN_INIT_DONE */

#define BMCR_RESET 0x8000u
#define BMCR_POWER_DOWN 0x0800u
#define BMCR_RESTART 0x0200u
#define BMSR_LINK 0x0024u			/* and negotiated */
enum { P_BMCR = 0, P_BMSR = 1, P_STATUS1000 = 10, P_SPECIFIC = 17, P_PAGE = 22 };

#define NVM_CHECKSUM 0xbaba

struct range {
	uint32_t at, count, mask;
};

#define RING_REGS(base) { base, 1, 0xfffffff0 }, { (base) + 4, 1, UINT32_MAX }, { (base) + 8, 1, 0xfff80 }, { (base) + 0x10, 1, 0xffff }, \
	{ (base) + 0x18, 1, 0xffff }, { (base) + 0x20, 1, 0xffff }, { (base) + 0x28, 1, UINT32_MAX }, { (base) + 0x2c, 1, 0xffff }

static const struct range plain[] = {
	{ R_EECD, 1, 0x4f }, { R_CTRL_EXT, 1, 0xffffdfff }, { 0x28, 3, UINT32_MAX }, { R_VET, 1, 0xffff }, { R_ITR, 1, 0xffff }, { R_EIAC, 1, 0x01f00000 },
	{ R_IAM, 1, UINT32_MAX }, { R_IVAR, 1, 0x800fffff }, { R_EITR, E_VECTORS, 0xffff }, { R_RCTL, 1, UINT32_MAX }, { 0x170, 1, 0xffff },
	{ R_TCTL, 1, UINT32_MAX }, { 0x404, 1, UINT32_MAX }, { 0x410, 1, UINT32_MAX }, { 0x458, 1, 0xffff }, { 0xe00, 1, UINT32_MAX },
	{ R_EXTCNF, 1, UINT32_MAX }, { 0xf08, 1, UINT32_MAX }, { 0xf10, 1, UINT32_MAX }, { R_PBA, 1, 0x3f }, { 0x1008, 1, 0x3f },
	{ 0x2160, 1, 0xfff8 }, { 0x2168, 1, 0xfff8 }, { R_PSRCTL, 1, UINT32_MAX }, RING_REGS(0x2800), RING_REGS(0x2900), { 0x2c00, 1, 0xfff },
	{ 0x3004, 1, UINT32_MAX }, RING_REGS(0x3800), RING_REGS(0x3900), { 0x3840, 1, UINT32_MAX }, { 0x3940, 1, UINT32_MAX },
	{ R_RXCSUM, 1, 0x3fff }, { R_RFCTL, 1, UINT32_MAX }, { R_MTA, 128, UINT32_MAX }, { R_RAL, 32, UINT32_MAX }, { R_VFTA, 128, UINT32_MAX },
	{ 0x5800, 1, UINT32_MAX }, { 0x5808, 1, UINT32_MAX }, { 0x5810, 1, UINT32_MAX }, { 0x5818, 1, UINT32_MAX }, { 0x5820, 1, UINT32_MAX },
	{ 0x5838, 1, UINT32_MAX }, { 0x5840, 12, UINT32_MAX }, { 0x5880, 4, UINT32_MAX }, { 0x5b00, 1, UINT32_MAX }, { 0x5b64, 1, UINT32_MAX },
	{ 0x5c00, 32, UINT32_MAX }, { 0x5c80, 10, UINT32_MAX }, { R_TIMINCA, 1, UINT32_MAX }, { 0xb60c, 1, UINT32_MAX }, { 0xb614, 1, 0x1f },
	{ 0xb620, 1, 0x1f }, { 0xb634, 1, 0xffff },
};

static const struct range *find_plain(uint32_t off)
{
	for (unsigned i = 0; i < ARRAY_LEN(plain); i++)
		if (off >= plain[i].at && off < plain[i].at + 4 * plain[i].count)
			return &plain[i];
	return NULL;
}

/* ---- PHY: a BME1000 (IEEE 802.3, clause 22) at address 1 ---- */

bool e1000e_link(const struct e1000e *d)
{
	return d->cable && !(d->phy[P_BMCR] & BMCR_POWER_DOWN);
}

static void phy_reset(struct e1000e *d)
{
	static const uint16_t values[32] = { 0x1140, 0x7949, 0x0141, 0x0cb1, 0x0de1, 0xcde1, 0x000f, 0x2001, 0, 0x0e00, 0x7c00, [15] = 0x3000,
					     [16] = 0x0078, [17] = 0xac08, [20] = 0x0c60 };

	memcpy(d->phy, values, sizeof(d->phy));
}

/* Only the registers of clause 22 are on all pages; page 0 has the vendor's that matter. */
static bool on_page(const struct e1000e *d, unsigned reg)
{
	return reg < 16 || reg == P_PAGE || !d->phy[P_PAGE];
}

static uint16_t phy_read(const struct e1000e *d, unsigned reg)
{
	uint16_t v = on_page(d, reg) ? d->phy[reg] : 0;

	if (reg == P_BMSR && e1000e_link(d))
		v |= BMSR_LINK;
	if (reg == P_STATUS1000 && !e1000e_link(d))
		v = 0;
	if (reg == P_SPECIFIC && on_page(d, reg) && e1000e_link(d))
		v |= 0x0400;
	return v;
}

static void phy_write(struct e1000e *d, unsigned reg, uint16_t v)
{
	bool was = e1000e_link(d);

	if (reg == P_BMCR && v & BMCR_RESET) {
		phy_reset(d);
		return;
	}
	if (reg == P_BMCR)
		d->phy[reg] = v & (uint16_t)~(BMCR_RESTART | 0x3f);
	else if (reg == 4 || reg == 9 || reg == P_PAGE || (reg >= 16 && reg != P_SPECIFIC && on_page(d, reg)))
		d->phy[reg] = v;
	if (e1000e_link(d) != was || (reg == P_BMCR && v & BMCR_RESTART && was))
		e1000e_raise(d, ICR_LSC);
}

/* 10.2.2.6 */
static void mdic_write(struct e1000e *d, uint32_t v)
{
	unsigned reg = v >> 16 & 31, phy = v >> 21 & 31, op = v >> 26 & 3;

	v &= ~BIT(30);
	if (phy != 1 || (op != 1 && op != 2))
		v |= BIT(30);
	else if (op == 2)
		v = (v & 0xffff0000) | phy_read(d, reg);
	else
		phy_write(d, reg, (uint16_t)v);
	*e1000e_reg(d, R_MDIC) = v | BIT(28);
	if (v & BIT(29))
		e1000e_raise(d, ICR_MDAC);
}

/* ---- NVM ---- */

void e1000e_nvm_init(struct e1000e *d)
{
	uint16_t sum = 0;

	memset(d->nvm, 0xff, sizeof(d->nvm));
	for (unsigned i = 0; i < 3; i++)
		d->nvm[i] = ld_le16(d->addr + 2 * i);
	d->nvm[0x03] = 0x0420;			/* compatibility: LOM, client */
	d->nvm[0x05] = 0x2010;			/* version of what is here */
	d->nvm[0x08] = d->nvm[0x09] = 0;	/* no board's number */
	d->nvm[0x0a] = 0x026b;
	d->nvm[0x0b] = 0;
	d->nvm[0x0c] = 0x8086;
	d->nvm[0x0d] = 0x10d3;
	d->nvm[0x0e] = 0;
	d->nvm[0x0f] = 0x0481;			/* no management */
	d->nvm[0x14] = d->nvm[0x24] = 0;	/* nothing wakes */
	for (unsigned i = 0; i < 63; i++)
		sum = (uint16_t)(sum + d->nvm[i]);
	d->nvm[63] = (uint16_t)(NVM_CHECKSUM - sum);
}

static uint32_t eerd(const struct e1000e *d, uint32_t v)
{
	uint32_t at = v >> 2 & 0x3fff;

	if (!(v & 1))
		return v & 0xfffc;
	return (v & 0xfffc) | 2 | (uint32_t)(at < ARRAY_LEN(d->nvm) ? d->nvm[at] : 0xffff) << 16;
}

/* ---- time stamps' clock: TIMINCA's increments of its periods of 40 ns ---- */

static uint64_t increments(const struct e1000e *d)
{
	uint32_t inc = e1000e_get(d, R_TIMINCA), period = inc >> 24;

	return period ? (uint64_t)clock_now(d->m->clock) / 40 / period * (inc & 0xffffff) : 0;
}

static uint64_t systim(const struct e1000e *d)
{
	return (uint64_t)d->time_base + increments(d);
}

static void set_systim(struct e1000e *d, uint64_t v)
{
	d->time_base = (int64_t)(v - increments(d));
}

/* ---- registers ---- */

/* Counters are cleared by reading, those of 64 bits by their upper half. */
static uint32_t stat_read(struct e1000e *d, uint32_t off)
{
	uint32_t v = e1000e_get(d, off);

	if (off == R_GORC || off == R_GOTC || off == R_TOR || off == R_TOT)
		return v;
	*e1000e_reg(d, off) = 0;
	if (off == R_GORC + 4 || off == R_GOTC + 4 || off == R_TOR + 4 || off == R_TOT + 4)
		*e1000e_reg(d, off - 4) = 0;
	return v;
}

static uint32_t status(const struct e1000e *d)
{
	return STATUS_FIXED | STATUS_FD | STATUS_1000 | (e1000e_link(d) ? STATUS_LU : 0) |
	       (e1000e_get(d, R_CTRL) & CTRL_GIO_DISABLE ? 0 : STATUS_GIO_MASTER);
}

uint32_t e1000e_read(struct e1000e *d, uint32_t off)
{
	uint32_t v;

	if (off >= R_STATS && off < R_STATS_END)
		return stat_read(d, off);
	switch (off) {
	case R_CTRL: case R_CTRL_ALIAS: return e1000e_get(d, R_CTRL);
	case R_STATUS: return status(d);
	case R_EECD: return e1000e_get(d, off) | 0x300 | (e1000e_get(d, off) & 0x40) << 1;	/* loaded, there; granted if asked for */
	case R_EERD: case R_MDIC: case R_IMS: return e1000e_get(d, off);
	case R_ICR: return e1000e_icr_read(d);
	case R_EEMNGCTL: return BIT(18);
	case R_EEWR: return 2;
	case R_SYSTIML: return (uint32_t)systim(d);
	case R_SYSTIMH: return (uint32_t)(systim(d) >> 32);
	case R_SWSM:
		v = e1000e_get(d, R_SWSM);
		*e1000e_reg(d, R_SWSM) |= 1;		/* a semaphore: whoever reads has taken it */
		return v;
	default: return find_plain(off) ? e1000e_get(d, off) : 0;
	}
}

static void ctrl_write(struct e1000e *d, uint32_t v)
{
	*e1000e_reg(d, R_CTRL) = v & ~CTRL_SELF_CLEARING;
	if (v & BIT(31))
		phy_reset(d);
	if (v & BIT(26))
		e1000e_soft_reset(d);
}

static void load_address(struct e1000e *d)
{
	*e1000e_reg(d, R_RAL) = ld_le32(d->addr);
	*e1000e_reg(d, R_RAH) = ld_le16(d->addr + 4) | BIT(31);
}

static void plain_write(struct e1000e *d, uint32_t off, uint32_t v)
{
	const struct range *r = find_plain(off);

	if (r)
		*e1000e_reg(d, off) = v & r->mask;
	switch (off) {
	case R_CTRL_EXT:
		if (v & BIT(13))			/* EE_RST */
			load_address(d);
		break;
	case R_TDT: case E_RING(R_TDT, 1): case R_TCTL: loop_bh_post(&d->tx_bh); break;
	case R_RDT: case E_RING(R_RDT, 1): case R_RCTL:
		if (d->rx_waits)
			loop_bh_post(&d->rx_bh);
		break;
	case R_EITR: case R_ITR: case R_IAM: case R_IVAR: e1000e_irq_update(d); break;
	default: break;
	}
}

void e1000e_write(struct e1000e *d, uint32_t off, uint32_t v)
{
	switch (off) {
	case R_CTRL: case R_CTRL_ALIAS: ctrl_write(d, v); break;
	case R_EERD: *e1000e_reg(d, off) = eerd(d, v); break;
	case R_MDIC: mdic_write(d, v); break;
	case R_ICR:
		*e1000e_reg(d, R_ICR) &= ~v;
		e1000e_irq_update(d);
		break;
	case R_ICS: e1000e_raise(d, v & ICR_ALL); break;
	case R_IMS:
		*e1000e_reg(d, R_IMS) |= v & ICR_ALL;
		e1000e_irq_update(d);
		break;
	case R_IMC:
		*e1000e_reg(d, R_IMS) &= ~v;
		e1000e_irq_update(d);
		break;
	case R_SWSM: *e1000e_reg(d, R_SWSM) = v & 0xf; break;
	case R_SYSTIML: set_systim(d, (systim(d) & ~0xffffffffull) | v); break;
	case R_SYSTIMH: set_systim(d, (uint32_t)systim(d) | (uint64_t)v << 32); break;
	case R_TIMINCA: {
		uint64_t now = systim(d);

		*e1000e_reg(d, R_TIMINCA) = v;
		set_systim(d, now);
		break;
	}
	default: plain_write(d, off, v);
	}
}

void e1000e_regs_reset(struct e1000e *d, bool soft)
{
	memset(d->mac, 0, sizeof(d->mac));
	if (!soft)
		phy_reset(d);
	*e1000e_reg(d, R_CTRL) = 0x00140240;
	*e1000e_reg(d, R_VET) = 0x8100;
	*e1000e_reg(d, R_PBA) = 0x14;
	*e1000e_reg(d, 0xe00) = 0x07061302;		/* LEDCTL */
	*e1000e_reg(d, 0x5b00) = 0x00001000;		/* GCR */
	for (unsigned q = 0; q < E_QUEUES; q++)
		*e1000e_reg(d, E_RING(0x3828, q)) = BIT(24);
	d->time_base = 0;
	d->io_addr = 0;
	load_address(d);
}

void e1000e_regs_loaded(struct e1000e *d)
{
	for (uint32_t off = 0; off < E_SPACE; off += 4) {
		const struct range *r = find_plain(off);

		if (r)
			*e1000e_reg(d, off) &= r->mask;
	}
	*e1000e_reg(d, R_CTRL) &= ~CTRL_SELF_CLEARING;
	*e1000e_reg(d, R_IMS) &= ICR_ALL;
	*e1000e_reg(d, R_ICR) &= ICR_ALL;
	*e1000e_reg(d, R_SWSM) &= 0xf;
}
