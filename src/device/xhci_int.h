/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the xHCI controller share: xhci.c has the PCI function,
 * registers and the life of the device, xhci_port.c the ports of the root hub,
 * xhci_ring.c reading rings and the event rings, xhci_cmd.c commands and contexts,
 * xhci_ep.c endpoints and transfers, xhci_snap.c saved state.
 *
 * Writes to registers only note what is asked; the work is done on the machine's
 * loop (xhci_work).  The machine lock protects all of it.  Numbers are sections
 * of xHCI 1.1.
 */
#ifndef LODGE_DEVICE_XHCI_INT_H
#define LODGE_DEVICE_XHCI_INT_H

#include "device/xhci.h"

#include "base/bits.h"

#define XHCI_PORTS (2 * XHCI_SOCKETS)
#define XHCI_SLOTS 64u
#define XHCI_INTRS 8u
#define XHCI_EPS 32u			/* by DCI; 0 is not used */
#define XHCI_SEGMENTS 16u		/* of an event ring */
#define XHCI_HELD 128u			/* events that wait for room in a ring */
#define XHCI_TD_TRBS 1024u		/* of one transfer */

/* 5.4 */
#define CMD_RUN 0x1u
#define CMD_HCRST 0x2u
#define CMD_INTE 0x4u
#define CMD_CSS 0x100u
#define CMD_CRS 0x200u
#define CMD_EWE 0x400u
#define STS_HCH 0x1u
#define STS_HSE 0x4u
#define STS_EINT 0x8u
#define STS_PCD 0x10u
#define STS_SRE 0x400u
#define STS_CNR 0x800u
#define STS_HCE 0x1000u
#define CRCR_STOP 0x6u			/* stop, abort */
#define CRCR_RUNNING 0x8u
#define IMAN_IP 0x1u
#define IMAN_IE 0x2u
#define ERDP_EHB 0x8u

/* 5.4.8 */
#define PORT_CCS 0x1u
#define PORT_PED 0x2u
#define PORT_PR 0x10u
#define PORT_PLS 0x1e0u
#define PORT_PP 0x200u
#define PORT_LWS 0x10000u
#define PORT_CSC 0x20000u
#define PORT_PEC 0x40000u
#define PORT_WRC 0x80000u
#define PORT_PRC 0x200000u
#define PORT_PLC 0x400000u
#define PORT_CHANGES 0xfe0000u
#define PORT_WAKE 0xe000000u
#define PORT_WPR BIT(31)
enum { PLS_U0 = 0, PLS_U3 = 3, PLS_DISABLED = 4, PLS_RXDETECT = 5, PLS_POLLING = 7, PLS_RESUME = 15 };

/* 6.4.6 */
enum {
	TRB_NORMAL = 1, TRB_SETUP, TRB_DATA, TRB_STATUS, TRB_ISOCH, TRB_LINK, TRB_EVENT_DATA, TRB_NOOP,
	TRB_ENABLE_SLOT, TRB_DISABLE_SLOT, TRB_ADDRESS, TRB_CONFIGURE, TRB_EVALUATE, TRB_RESET_EP, TRB_STOP_EP, TRB_SET_DEQUEUE,
	TRB_RESET_DEVICE, TRB_BANDWIDTH = 21, TRB_NOOP_COMMAND = 23,
	TRB_EV_TRANSFER = 32, TRB_EV_COMMAND, TRB_EV_PORT, TRB_EV_HOST = 37, TRB_EV_WRAP = 39,
};
#define TRB_CYCLE 0x1u
#define TRB_TOGGLE 0x2u			/* Link */
#define TRB_ISP 0x4u
#define TRB_CHAIN 0x10u
#define TRB_IOC 0x20u
#define TRB_IDT 0x40u
#define TRB_BEI 0x200u
#define TRB_DIR 0x10000u		/* Data Stage */
static inline unsigned trb_type(uint32_t control) { return control >> 10 & 63; }

/* 6.4.5 */
enum {
	CC_SUCCESS = 1, CC_BABBLE = 3, CC_TRANSACTION = 4, CC_TRB = 5, CC_STALL = 6, CC_NO_SLOTS = 9, CC_SLOT_NOT_ENABLED = 11,
	CC_SHORT = 13, CC_UNDERRUN = 14, CC_OVERRUN = 15, CC_PARAMETER = 17, CC_CONTEXT_STATE = 19, CC_RING_FULL = 21,
	CC_COMMAND_STOPPED = 24, CC_STOPPED = 26,
};

struct trb {
	uint64_t param;
	uint32_t status, control;
	uint64_t at;			/* where it was */
};

/* A place in a ring, and the cycle bit that says a TRB there is valid. */
struct xhci_ring {
	uint64_t at;
	bool cycle;
};

/* A transfer that a device has; what its TRBs say was read once. */
struct xhci_td {
	struct usb_packet p;
	struct xhci_ep *ep;
	struct xhci_ring next;		/* behind it */
	unsigned n;
	struct iovec *iov;
	struct trb trb[];
};

enum { EP_DISABLED, EP_RUNNING, EP_HALTED, EP_STOPPED, EP_ERROR };	/* 6.2.3 */
enum { EP_ISOCH = 1, EP_BULK, EP_INTERRUPT, EP_CONTROL };		/* type without direction */

struct xhci_slot;

struct xhci_ep {
	struct xhci_slot *slot;
	uint8_t dci;
	uint8_t state;
	uint32_t dw[2];			/* of its context, without the state */
	struct xhci_ring ring;		/* the next transfer, or the one under way */
	struct xhci_td *td;		/* NULL: none under way */
	bool submitting;		/* td is being given to the device: its end is dealt with there */
	/* isochronous */
	bool ticking;
	int64_t due_ns;
};

enum { SLOT_DEFAULT = 1, SLOT_ADDRESSED, SLOT_CONFIGURED };		/* 6.2.2; 0: enabled */

struct xhci_slot {
	struct xhci *x;
	uint8_t id;			/* from 1 on */
	bool enabled;
	uint8_t state;
	uint8_t port;			/* of the root hub, from 1 on; 0: not addressed */
	uint64_t ctx;			/* the output device context */
	uint32_t dw[3];			/* of the slot context */
	uint32_t rung;			/* endpoints with something to do, by DCI */
	struct xhci_ep ep[XHCI_EPS];
};

struct xhci_intr {
	uint32_t iman, imod, erstsz;
	uint64_t erstba, erdp;
	/* The ring; its segments are read when the first event is written to it. */
	uint64_t seg_at[XHCI_SEGMENTS];
	uint32_t seg_size[XHCI_SEGMENTS];
	uint32_t n_segs, seg, index;
	bool cycle, full;
	/* What has no room; TRBs as they will be written, but for the cycle bit. */
	struct trb *held;		/* XHCI_HELD, made at the first use */
	uint32_t n_held;
};

struct xhci_port {
	struct xhci *x;
	unsigned n;			/* from 1 on */
	struct usb_port port;
	uint32_t portsc, pmsc, li;
};

struct xhci {
	struct pci_dev pci;		/* first */
	struct machine *m;
	struct loop_bh work;
	struct vtimer isoch_timer, wrap_timer;
	bool paused, saved;		/* saved: by CSS, since the last reset */
	uint32_t usbcmd, usbsts, dnctrl, config;
	uint64_t dcbaap;
	uint32_t crcr;			/* STOP, RUNNING */
	struct xhci_ring commands;
	unsigned n_held;		/* of all interrupters: nothing new is begun before they are told */
	struct xhci_intr intr[XHCI_INTRS];
	struct xhci_port port[XHCI_PORTS];
	struct xhci_slot slot[XHCI_SLOTS];
	struct trb scratch[XHCI_TD_TRBS];
};

static inline bool xhci_running(const struct xhci *x) { return !(x->usbsts & STS_HCH); }

/* xhci.c */
/* There is something to do, soon. */
void xhci_kick(struct xhci *x);
/* A serious error (STS_HSE, STS_HCE): the controller halts. */
void xhci_die(struct xhci *x, uint32_t status);
void xhci_irq(struct xhci *x, unsigned intr);
void xhci_update_pin(struct xhci *x);

/* xhci_ring.c */
/* False: the address is no memory, and the controller has halted. */
bool xhci_write(struct xhci *x, uint64_t gpa, const void *buf, unsigned len);
/* The next TRB that is no Link.  1; 0: none yet; -EFAULT, -ELOOP */
int xhci_fetch(struct xhci *x, struct xhci_ring *r, struct trb *t);
/* type and cycle are filled in; quiet: no interrupt. */
void xhci_event(struct xhci *x, unsigned intr, unsigned type, struct trb t, bool quiet);
void xhci_event_ring_new(struct xhci *x, unsigned intr);
/* The driver has read some: those held back are told. */
void xhci_events_read(struct xhci *x, unsigned intr);

/* xhci_cmd.c */
void xhci_commands(struct xhci *x);
void xhci_write_ep(struct xhci_ep *ep);

/* xhci_ep.c */
void xhci_ep_enable(struct xhci_ep *ep, const uint32_t dw[5]);
void xhci_ep_disable(struct xhci_ep *ep);
/* Takes back what the device has; cc 0: no event tells. */
void xhci_ep_cancel(struct xhci_ep *ep, unsigned cc);
void xhci_ep_run(struct xhci_ep *ep);
void xhci_isoch(void *x);
static inline unsigned xhci_ep_type(const struct xhci_ep *ep) { return (ep->dw[1] >> 3 & 7) > 4 ? (ep->dw[1] >> 3 & 3) : ep->dw[1] >> 3 & 7; }

/* xhci_port.c */
void xhci_ports_init(struct xhci *x);
void xhci_port_power_on(struct xhci_port *p);
uint32_t xhci_port_read(const struct xhci_port *p, unsigned off);
void xhci_port_write(struct xhci_port *p, unsigned off, uint32_t v);
/* Resets that were asked for. */
void xhci_ports_work(struct xhci *x);
/* Tells of changes that are there already: the controller runs from now on. */
void xhci_ports_tell(struct xhci *x);
/* The device answers: NULL if it is not there or not enabled. */
struct usb_device *xhci_port_device(const struct xhci_port *p);
static inline unsigned xhci_port_link(const struct xhci_port *p) { return p->portsc >> 5 & 15; }

/* xhci_snap.c */
int xhci_save(struct dev *d, struct snap_out *o);
int xhci_load(struct dev *d, struct snap_in *in, struct err *e);
/* xhci.c: as after power on; devices keep their state. */
void xhci_reset_regs(struct xhci *x);

#endif
