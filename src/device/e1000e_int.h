/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the 82574L share: e1000e.c is the PCI function, saved state and
 * the way to the back end, e1000e_regs.c registers, PHY and NVM, e1000e_irq.c
 * interrupts and their throttling, e1000e_rx.c and e1000e_tx.c the rings.
 *
 * All on the machine's loop or a vCPU's thread, machine lock held.  Names of
 * registers and numbers are those of the 82574 datasheet, chapter 10.
 */
#ifndef LODGE_DEVICE_E1000E_INT_H
#define LODGE_DEVICE_E1000E_INT_H

#include "base/bits.h"
#include "device/e1000e.h"
#include "machine/clock.h"
#include "net/vhdr.h"

#define E_SPACE 0x10000u		/* registers are below */
#define E_QUEUES 2
#define E_VECTORS 5
#define E_RING(base, q) ((base) + 0x100u * (q))

enum {
	R_CTRL = 0x00, R_CTRL_ALIAS = 0x04, R_STATUS = 0x08, R_EECD = 0x10, R_EERD = 0x14, R_CTRL_EXT = 0x18, R_MDIC = 0x20, R_VET = 0x38,
	R_ICR = 0xc0, R_ITR = 0xc4, R_ICS = 0xc8, R_IMS = 0xd0, R_IMC = 0xd8, R_EIAC = 0xdc, R_IAM = 0xe0, R_IVAR = 0xe4, R_EITR = 0xe8,
	R_RCTL = 0x100, R_TCTL = 0x400, R_EXTCNF = 0xf00, R_PBA = 0x1000, R_EEMNGCTL = 0x1010, R_EEWR = 0x102c, R_PSRCTL = 0x2170,
	R_RDBAL = 0x2800, R_RDBAH = 0x2804, R_RDLEN = 0x2808, R_RDH = 0x2810, R_RDT = 0x2818,
	R_TDBAL = 0x3800, R_TDBAH = 0x3804, R_TDLEN = 0x3808, R_TDH = 0x3810, R_TDT = 0x3818,
	R_STATS = 0x4000, R_STATS_END = 0x4128, R_MPC = 0x4010, R_GPRC = 0x4074, R_BPRC = 0x4078, R_MPRC = 0x407c, R_GPTC = 0x4080, R_GORC = 0x4088,
	R_GOTC = 0x4090, R_RNBC = 0x40a0, R_TOR = 0x40c0, R_TOT = 0x40c8, R_TPR = 0x40d0, R_TPT = 0x40d4, R_MPTC = 0x40f0, R_BPTC = 0x40f4,
	R_RXCSUM = 0x5000, R_RFCTL = 0x5008, R_MTA = 0x5200, R_RAL = 0x5400, R_RAH = 0x5404, R_VFTA = 0x5600, R_SWSM = 0x5b50,
	R_SYSTIML = 0xb600, R_SYSTIMH = 0xb604, R_TIMINCA = 0xb608,
};

#define CTRL_GIO_DISABLE 0x4u
#define CTRL_VME BIT(30)
#define CTRL_SELF_CLEARING (BIT(26) | BIT(31))		/* RST, PHY_RST */
#define CTRL_EXT_EIAME BIT(24)
#define CTRL_EXT_IAME BIT(27)

#define ICR_TXDW BIT(0)
#define ICR_TXQE BIT(1)
#define ICR_LSC BIT(2)
#define ICR_RXDMT0 BIT(4)
#define ICR_RXT0 BIT(7)
#define ICR_MDAC BIT(9)
#define ICR_RXQ0 BIT(20)
#define ICR_TXQ0 BIT(22)
#define ICR_OTHER BIT(24)
#define ICR_ALL 0x01f782dfu
#define ICR_ASSERTED BIT(31)

#define TX_BUF (NET_MAX_FRAME + 4u)	/* and a tag */

/* What a context descriptor says (7.2.11). */
struct e1000e_ctx {
	uint16_t ipcss, ipcso, ipcse, tucss, tucso, tucse, hdr_len, mss;
	uint8_t tucmd;
};

/* A transmit ring's packet on its way from descriptors to the back end. */
struct e1000e_tx {
	struct e1000e_ctx ctx;		/* the last one the driver gave */
	struct e1000e_ctx c;		/* as it is for the whole packet */
	uint32_t len;			/* bytes in buf */
	uint8_t popts, cmd;		/* of the packet's first data descriptor */
	bool begun, bad;		/* between a packet's first descriptor and its last; too long, or not in memory */
	bool whole;			/* the back end was busy: the packet is ready, and TDH is at its last descriptor */
	bool segments;			/* of a whole one: are to be made here */
	uint8_t last_cmd;
	uint32_t done;			/* bytes of payload that went out as segments made here */
	struct net_vhdr h;
	uint8_t buf[TX_BUF];
};

struct e1000e {
	struct pci_dev pci;		/* first */
	struct machine *m;
	char id[32];
	struct net_backend *b;
	struct e1000e_stats stats;
	uint8_t addr[6];
	bool cable, paused, rx_waits;
	uint32_t mac[E_SPACE / 4];
	uint16_t phy[32], nvm[64];
	uint32_t io_addr;
	uint32_t told;			/* causes that a message was sent for and that are still there */
	int64_t next_ns[E_VECTORS + 1];	/* no message before; the last is ITR's */
	struct vtimer throttle;
	int64_t time_base;		/* SYSTIM less what TIMINCA makes of the clock */
	struct loop_bh tx_bh, rx_bh;
	struct e1000e_tx tx[E_QUEUES];
	uint8_t rx_buf[NET_MAX_FRAME + 64];
};

static inline uint32_t *e1000e_reg(struct e1000e *d, uint32_t off) { return &d->mac[off / 4]; }
static inline uint32_t e1000e_get(const struct e1000e *d, uint32_t off) { return d->mac[off / 4]; }

/* A ring as its registers describe it; n 0: there is none. */
struct e1000e_ring {
	uint64_t base;
	uint32_t n, head, tail;
};

/* The one place that reads ring registers: base at off, descriptors of `size` bytes. */
static inline struct e1000e_ring e1000e_ring(const struct e1000e *d, uint32_t off, uint32_t size)
{
	struct e1000e_ring r = { .base = (uint64_t)e1000e_get(d, off + 4) << 32 | e1000e_get(d, off), .n = e1000e_get(d, off + 8) / size,
				 .head = e1000e_get(d, off + 0x10), .tail = e1000e_get(d, off + 0x18) };

	/* Indexes outside the ring: nothing is in it. */
	if (r.head >= r.n || r.tail >= r.n)
		r.n = 0;
	return r;
}

static inline bool e1000e_master(const struct e1000e *d)
{
	return ld_le16(d->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static inline void e1000e_count(struct e1000e *d, uint32_t off, uint32_t n)
{
	uint32_t *r = e1000e_reg(d, off);

	*r = *r + n < n ? UINT32_MAX : *r + n;
}

/* A counter of 64 bits. */
static inline void e1000e_count64(struct e1000e *d, uint32_t off, uint64_t n)
{
	uint64_t v = ((uint64_t)e1000e_get(d, off + 4) << 32 | e1000e_get(d, off)) + n;

	*e1000e_reg(d, off) = (uint32_t)v;
	*e1000e_reg(d, off + 4) = (uint32_t)(v >> 32);
}

/* e1000e_regs.c */
uint32_t e1000e_read(struct e1000e *d, uint32_t off);
void e1000e_write(struct e1000e *d, uint32_t off, uint32_t v);
/* Registers as after power-on, or (soft) as after CTRL.RST: PHY and address stay. */
void e1000e_regs_reset(struct e1000e *d, bool soft);
void e1000e_nvm_init(struct e1000e *d);
bool e1000e_link(const struct e1000e *d);
/* Clears what no write leaves behind, in registers that were loaded. */
void e1000e_regs_loaded(struct e1000e *d);

/* e1000e_irq.c */
void e1000e_irq_init(struct e1000e *d);
void e1000e_irq_reset(struct e1000e *d);
void e1000e_raise(struct e1000e *d, uint32_t causes);
void e1000e_irq_update(struct e1000e *d);
uint32_t e1000e_icr_read(struct e1000e *d);

/* e1000e_rx.c: struct net_card.recv */
int e1000e_recv(void *opaque, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n);
/* What was held back because the card would not take it can come, or is lost: rx_bh, since the back end is the loop's. */
void e1000e_rx_again(void *opaque);

/* e1000e_tx.c */
void e1000e_tx_run(void *opaque);
void e1000e_tx_reset(struct e1000e *d);
/* Saved state is foreign data: is what was loaded something that could have come about? */
bool e1000e_tx_loaded(const struct e1000e *d, struct e1000e_tx *t);

/* e1000e.c */
void e1000e_soft_reset(struct e1000e *d);

#endif
