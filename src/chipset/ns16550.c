/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * National NS16550A UART (data sheet "PC16550D", 1995).
 *
 * Bytes written go to the chardev in the same access; only when it is full do
 * they wait in the transmit FIFO and THRE stays low until it is writable again.
 * Received bytes are taken from the chardev as far as the receive FIFO has
 * room, so nothing is lost and overrun does not happen.  The divisor sets no
 * pace; it only scales the character time-out.
 *
 * As on a PC, MCR's OUT2 gates the interrupt.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chardev/chardev.h"
#include "chipset/ns16550.h"
#include "machine/machine.h"

#define FIFO_LEN 16

enum { IER_RX = 1, IER_TX = 2, IER_LSR = 4, IER_MSR = 8 };
enum { IIR_NONE = 1, IIR_MSR = 0, IIR_TX = 2, IIR_RX = 4, IIR_LSR = 6, IIR_TIMEOUT = 0xc };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_DLAB = 0x80, LCR_BREAK = 0x40 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_DELTA = 0xf, MSR_TERI = 4, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

struct fifo {
	uint8_t data[FIFO_LEN];
	uint8_t head, len;
};

struct ns16550 {
	struct dev dev;
	struct bus_region region;
	struct irq irq;
	struct chardev *chr;		/* NULL: nobody listens to its input */
	struct chardev *out;
	struct vtimer timeout;
	struct fifo rx, tx;
	uint8_t ier, lcr, mcr, fcr, scr, msr;
	uint8_t lsr_errors;		/* OE and BI, cleared by reading LSR */
	uint8_t dll, dlm;
	uint8_t tx_irq;			/* transmitter became empty, not yet reported */
	uint8_t rx_timeout;		/* character time-out, until the FIFO is read */
	int64_t timeout_ns;		/* when the pending time-out is due, 0: none */
};

static const struct snap_field fields[] = {
	{ "rx", offsetof(struct ns16550, rx.data), 1, FIFO_LEN, 0 },
	{ "rx_head", offsetof(struct ns16550, rx.head), 1, 1, 0 },
	{ "rx_len", offsetof(struct ns16550, rx.len), 1, 1, 0 },
	{ "tx", offsetof(struct ns16550, tx.data), 1, FIFO_LEN, 0 },
	{ "tx_head", offsetof(struct ns16550, tx.head), 1, 1, 0 },
	{ "tx_len", offsetof(struct ns16550, tx.len), 1, 1, 0 },
	SNAP_FIELD(struct ns16550, ier),
	SNAP_FIELD(struct ns16550, lcr),
	SNAP_FIELD(struct ns16550, mcr),
	SNAP_FIELD(struct ns16550, fcr),
	SNAP_FIELD(struct ns16550, scr),
	SNAP_FIELD(struct ns16550, msr),
	SNAP_FIELD(struct ns16550, lsr_errors),
	SNAP_FIELD(struct ns16550, dll),
	SNAP_FIELD(struct ns16550, dlm),
	SNAP_FIELD(struct ns16550, tx_irq),
	SNAP_FIELD(struct ns16550, rx_timeout),
	SNAP_FIELD(struct ns16550, timeout_ns),
	SNAP_END
};
static const struct snap_table table = { "ns16550", 1, fields };

static void fifo_put(struct fifo *f, uint8_t b)
{
	f->data[(f->head + f->len++) % FIFO_LEN] = b;
}

static uint8_t fifo_get(struct fifo *f)
{
	uint8_t b = f->data[f->head];

	f->head = (f->head + 1) % FIFO_LEN;
	f->len--;
	return b;
}

static unsigned depth(const struct ns16550 *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_LEN : 1;
}

static unsigned trigger(const struct ns16550 *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static uint8_t iir(const struct ns16550 *u)
{
	if (u->ier & IER_LSR && u->lsr_errors)
		return IIR_LSR;
	if (u->ier & IER_RX && u->rx.len >= trigger(u))
		return IIR_RX;
	if (u->ier & IER_RX && u->rx_timeout)
		return IIR_TIMEOUT;
	if (u->ier & IER_TX && u->tx_irq)
		return IIR_TX;
	if (u->ier & IER_MSR && u->msr & MSR_DELTA)
		return IIR_MSR;
	return IIR_NONE;
}

static void update(struct ns16550 *u)
{
	irq_set(&u->irq, iir(u) != IIR_NONE && u->mcr & MCR_OUT2);
}

/* Four characters' time, kept within reason whatever the divisor. */
static int64_t timeout_length(const struct ns16550 *u)
{
	int64_t divisor = u->dll | u->dlm << 8;
	int64_t bits = 1 + 5 + (u->lcr & 3) + 1 + (u->lcr >> 2 & 1) + (u->lcr >> 3 & 1);
	int64_t ns = (divisor ? divisor : 65536) * bits * 4 * 1000000000 / 115200;

	return ns < 100000 ? 100000 : ns > 20000000 ? 20000000 : ns;
}

/* The receive FIFO changed: (re)start or stop the character time-out. */
static void restart_timeout(struct ns16550 *u)
{
	u->rx_timeout = 0;
	if (u->rx.len && u->rx.len < trigger(u)) {
		u->timeout_ns = clock_now(u->dev.m->clock) + timeout_length(u);
		vtimer_arm(&u->timeout, u->timeout_ns);
	} else if (u->timeout_ns) {
		u->timeout_ns = 0;
		vtimer_cancel(&u->timeout);
	}
}

static void timeout_cb(void *opaque)
{
	struct ns16550 *u = opaque;

	if (!u->timeout_ns)
		return;
	u->timeout_ns = 0;
	u->rx_timeout = u->rx.len != 0;
	update(u);
}

static void receive(struct ns16550 *u, uint8_t b)
{
	if (u->rx.len < depth(u))
		fifo_put(&u->rx, b);
	else
		u->lsr_errors |= LSR_OE;
	restart_timeout(u);
}

/* Hands the transmit FIFO to the chardev as far as that takes it. */
static void drain(struct ns16550 *u)
{
	uint8_t b;

	while (u->tx.len) {
		b = u->tx.data[u->tx.head];
		if (u->out && !chardev_write(u->out, &b, 1) && u->chr)
			break;
		fifo_get(&u->tx);
	}
	if (!u->tx.len)
		u->tx_irq = 1;
}

static void transmit(struct ns16550 *u, uint8_t b)
{
	u->tx_irq = 0;
	if (u->mcr & MCR_LOOP) {
		receive(u, b);
		u->tx_irq = 1;
		return;
	}
	/* A guest that does not look at THRE overwrites the last byte. */
	if (u->tx.len >= depth(u))
		u->tx.data[(u->tx.head + u->tx.len - 1) % FIFO_LEN] = b;
	else
		fifo_put(&u->tx, b);
	drain(u);
}

/* The modem lines as the chip sees them: all up, or looped back from MCR. */
static void update_msr(struct ns16550 *u)
{
	uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD, changed;

	if (u->mcr & MCR_LOOP)
		lines = (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
				  (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
	changed = (u->msr ^ lines) & 0xf0;
	/* TERI notes only the trailing edge of RI. */
	if (!(u->msr & MSR_RI))
		changed &= (uint8_t)~MSR_RI;
	u->msr = lines | (u->msr & MSR_DELTA) | changed >> 4;
}

static void write_fcr(struct ns16550 *u, uint8_t val)
{
	if ((val ^ u->fcr) & FCR_ENABLE)
		val |= FCR_CLEAR_RX | FCR_CLEAR_TX;
	if (val & FCR_CLEAR_RX)
		u->rx = (struct fifo){ 0 };
	if (val & FCR_CLEAR_TX) {
		u->tx = (struct fifo){ 0 };
		u->tx_irq = 1;
	}
	u->fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
	restart_timeout(u);
	if (u->chr)
		chardev_kick(u->chr);
}

static void write_ier(struct ns16550 *u, uint8_t val)
{
	/* Enabling the interrupt of an empty transmitter raises it. */
	if (val & ~u->ier & IER_TX && !u->tx.len)
		u->tx_irq = 1;
	u->ier = val & 0xf;
}

static void uart_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct ns16550 *u = opaque;
	uint8_t val = (uint8_t)v;

	switch (off) {
	case 0:
		if (u->lcr & LCR_DLAB)
			u->dll = val;
		else
			transmit(u, val);
		break;
	case 1:
		if (u->lcr & LCR_DLAB)
			u->dlm = val;
		else
			write_ier(u, val);
		break;
	case 2: write_fcr(u, val); break;
	case 3:
		/* A break that is looped back is received as one. */
		if (val & ~u->lcr & LCR_BREAK && u->mcr & MCR_LOOP) {
			receive(u, 0);
			u->lsr_errors |= LSR_BI;
		}
		u->lcr = val;
		break;
	case 4:
		u->mcr = val & 0x1f;
		update_msr(u);
		if (u->chr)
			chardev_kick(u->chr);
		break;
	case 7: u->scr = val; break;
	}
	update(u);
}

static uint8_t read_rbr(struct ns16550 *u)
{
	uint8_t b;

	if (!u->rx.len)
		return 0;
	b = fifo_get(&u->rx);
	restart_timeout(u);
	/* May come back with more at once. */
	if (u->chr)
		chardev_kick(u->chr);
	return b;
}

static uint8_t read_iir(struct ns16550 *u)
{
	uint8_t v = iir(u);

	if (v == IIR_TX)
		u->tx_irq = 0;
	return v | (u->fcr & FCR_ENABLE ? 0xc0 : 0);
}

static uint8_t read_lsr(struct ns16550 *u)
{
	uint8_t v = u->lsr_errors | (u->rx.len ? LSR_DR : 0);

	if (!u->tx.len)
		v |= LSR_THRE | LSR_TEMT;
	u->lsr_errors = 0;
	return v;
}

static uint64_t uart_read(void *opaque, uint64_t off, unsigned len)
{
	struct ns16550 *u = opaque;
	uint64_t v = 0;

	switch (off) {
	case 0: v = u->lcr & LCR_DLAB ? u->dll : read_rbr(u); break;
	case 1: v = u->lcr & LCR_DLAB ? u->dlm : u->ier; break;
	case 2: v = read_iir(u); break;
	case 3: v = u->lcr; break;
	case 4: v = u->mcr; break;
	case 5: v = read_lsr(u); break;
	case 6:
		v = u->msr;
		u->msr &= (uint8_t)~MSR_DELTA;
		break;
	case 7: v = u->scr; break;
	}
	update(u);
	return v;
}

static const struct bus_ops uart_ops = {
	.read = uart_read, .write = uart_write, .min_len = 1, .max_len = 1,
};

static size_t chr_can_read(void *opaque)
{
	struct ns16550 *u = opaque;

	return u->mcr & MCR_LOOP || u->rx.len >= depth(u) ? 0 : depth(u) - u->rx.len;
}

static void chr_read(void *opaque, const uint8_t *buf, size_t len)
{
	struct ns16550 *u = opaque;

	for (size_t i = 0; i < len; i++)
		receive(u, buf[i]);
	update(u);
}

static void chr_writable(void *opaque)
{
	struct ns16550 *u = opaque;

	if (!u->tx.len)
		return;
	drain(u);
	update(u);
}

static void uart_reset(struct dev *d)
{
	struct ns16550 *u = container_of(d, struct ns16550, dev);

	u->rx = u->tx = (struct fifo){ 0 };
	u->ier = u->lcr = u->mcr = u->fcr = u->scr = 0;
	u->lsr_errors = u->rx_timeout = 0;
	u->dll = 12;			/* 9600 baud */
	u->dlm = 0;
	u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
	u->tx_irq = 0;
	u->timeout_ns = 0;
	vtimer_cancel(&u->timeout);
	update(u);
}

static void uart_resume(struct dev *d)
{
	struct ns16550 *u = container_of(d, struct ns16550, dev);

	if (u->chr)
		chardev_kick(u->chr);
	chr_writable(u);
}

static int uart_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct ns16550, dev));
}

static int uart_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct ns16550 *u = container_of(d, struct ns16550, dev);
	int ret = snap_get(in, d->id, &table, u, e);

	if (ret)
		return ret;
	if (u->rx.len > FIFO_LEN || u->tx.len > FIFO_LEN || u->rx.head >= FIFO_LEN ||
	    u->tx.head >= FIFO_LEN || u->timeout_ns < 0)
		return err_set(e, -EINVAL, "saved serial port %s: FIFO state makes no sense", d->id);
	if (u->timeout_ns)
		vtimer_arm(&u->timeout, u->timeout_ns);
	else
		vtimer_cancel(&u->timeout);
	update(u);
	return 0;
}

/* The line is down for longer than a character: a zero byte, marked. */
static void chr_break(void *opaque)
{
	struct ns16550 *u = opaque;

	if (u->mcr & MCR_LOOP)
		return;
	receive(u, 0);
	u->lsr_errors |= LSR_BI;
	update(u);
}

static void uart_free(struct dev *d)
{
	struct ns16550 *u = container_of(d, struct ns16550, dev);
	static const struct chardev_front nobody = { 0 };

	if (u->chr)
		chardev_attach(u->chr, &nobody);
	vtimer_cancel(&u->timeout);
	bus_del(&u->region);
	dev_del(d);
	free(u);
}

static const struct dev_ops uart_dev_ops = {
	.name = "ns16550",
	.reset = uart_reset,
	.resume = uart_resume,
	.save = uart_save,
	.load = uart_load,
	.free = uart_free,
};

int ns16550_new(struct machine *m, const struct ns16550_config *cfg, struct ns16550 **out)
{
	struct ns16550 *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->irq = cfg->irq;
	u->out = cfg->chr;
	u->chr = cfg->output_only ? NULL : cfg->chr;
	u->region = (struct bus_region){ .name = "ns16550", .ops = &uart_ops, .opaque = u,
					 .base = cfg->base, .size = 8, .priority = 1 };
	ret = bus_add(cfg->mmio ? m->mmio : m->pio, &u->region);
	if (ret) {
		free(u);
		return ret;
	}
	vtimer_init(m->clock, &u->timeout, timeout_cb, u);
	dev_add(m, &u->dev, &uart_dev_ops, cfg->id);
	uart_reset(&u->dev);
	if (u->chr)
		chardev_attach(u->chr, &(struct chardev_front){ .can_read = chr_can_read, .read = chr_read,
							       .writable = chr_writable, .brk = chr_break, .opaque = u });
	*out = u;
	return 0;
}
