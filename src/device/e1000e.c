/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L: the PCI function, its ways to the registers (memory, and a pair of
 * ports), the life of the device and saved state.
 *
 * Nothing is in flight between callbacks, so reset and pause have nothing to wait
 * for; a packet whose descriptors have come in part, or that the back end had no
 * room for, is part of the state.
 */
#include "device/e1000e_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/port.h"

#define MMIO_SIZE 0x20000u
#define FLASH_SIZE 0x20000u
#define IO_SIZE 0x20u
#define MSIX_SIZE 0x4000u
#define MSIX_TABLE 0u
#define MSIX_PBA 0x2000u

static struct e1000e *of_dev(struct dev *dev) { return container_of(dev, struct e1000e, pci.dev); }

/* ---- BARs ---- */

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	return off < E_SPACE ? e1000e_read(opaque, (uint32_t)off) : 0;
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	if (off < E_SPACE)
		e1000e_write(opaque, (uint32_t)off, (uint32_t)v);
}

/* An empty flash chip. */
static uint64_t flash_read(void *opaque, uint64_t off, unsigned len)
{
	return UINT64_MAX;
}

static void flash_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
}

/* 10.2.1: an address, and what is there. */
static uint64_t io_read(void *opaque, uint64_t off, unsigned len)
{
	struct e1000e *d = opaque;

	if (off == 0)
		return d->io_addr;
	return off == 4 && d->io_addr < E_SPACE && !(d->io_addr & 3) ? e1000e_read(d, d->io_addr) : 0;
}

static void io_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct e1000e *d = opaque;

	if (off == 0)
		d->io_addr = (uint32_t)v;
	else if (off == 4 && d->io_addr < E_SPACE && !(d->io_addr & 3))
		e1000e_write(d, d->io_addr, (uint32_t)v);
}

static uint64_t msix_read(void *opaque, uint64_t off, unsigned len)
{
	struct e1000e *d = opaque;

	return pci_msix_covers(&d->pci, off) ? pci_msix_read(&d->pci, off, len) : 0;
}

static void msix_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct e1000e *d = opaque;

	if (pci_msix_covers(&d->pci, off))
		pci_msix_write(&d->pci, off, len, v);
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .min_len = 4, .max_len = 4 };
static const struct bus_ops flash_ops = { .read = flash_read, .write = flash_write, .min_len = 1, .max_len = 4 };
static const struct bus_ops io_ops = { .read = io_read, .write = io_write, .min_len = 4, .max_len = 4 };
static const struct bus_ops msix_ops = { .read = msix_read, .write = msix_write, .min_len = 4, .max_len = 4 };

/* ---- the back end ---- */

static void tx_ready(void *opaque, unsigned q)
{
	struct e1000e *d = opaque;

	loop_bh_post(&d->tx_bh);
}

static void set_cable(struct e1000e *d, bool up)
{
	bool was = e1000e_link(d);

	d->cable = up;
	if (e1000e_link(d) != was)
		e1000e_raise(d, ICR_LSC);
}

static void on_link(void *opaque, bool up)
{
	set_cable(opaque, up);
}

/* ---- life cycle ---- */

void e1000e_soft_reset(struct e1000e *d)
{
	e1000e_tx_reset(d);
	e1000e_irq_reset(d);
	e1000e_regs_reset(d, true);
	if (d->rx_waits)
		loop_bh_post(&d->rx_bh);
}

static void reset(struct e1000e *d)
{
	e1000e_tx_reset(d);
	e1000e_irq_reset(d);
	e1000e_regs_reset(d, false);
}

static void dev_reset(struct dev *dev)
{
	struct e1000e *d = of_dev(dev);

	reset(d);
	pci_dev_reset(&d->pci);
	loop_bh_post(&d->rx_bh);
}

static void dev_pause(struct dev *dev)
{
	of_dev(dev)->paused = true;
}

static void dev_resume(struct dev *dev)
{
	struct e1000e *d = of_dev(dev);

	if (!d->paused)
		return;
	d->paused = false;
	e1000e_irq_update(d);
	loop_bh_post(&d->tx_bh);
	loop_bh_post(&d->rx_bh);
}

/* ---- saved state ---- */

struct state {
	uint32_t mac[E_SPACE / 4];
	uint16_t phy[32];
	uint32_t io_addr, told;
	int64_t next_ns[E_VECTORS + 1], time_base;
	uint16_t ctx[E_QUEUES * 16], flags[E_QUEUES];
	uint32_t len[E_QUEUES], done[E_QUEUES];
	uint8_t h[E_QUEUES * NET_VHDR_LEN], cable, addr[6];
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct state, mac), SNAP_ARRAY(struct state, phy), SNAP_FIELD(struct state, io_addr), SNAP_FIELD(struct state, told),
	SNAP_ARRAY(struct state, next_ns), SNAP_FIELD(struct state, time_base), SNAP_ARRAY(struct state, ctx), SNAP_ARRAY(struct state, flags),
	SNAP_ARRAY(struct state, len), SNAP_ARRAY(struct state, done), SNAP_ARRAY(struct state, h), SNAP_FIELD(struct state, cable),
	SNAP_ARRAY(struct state, addr), SNAP_END,
};
static const struct snap_table table = { "e1000e", 1, fields };

enum { F_BEGUN = 1, F_BAD = 2, F_WHOLE = 4, F_SEGMENTS = 8 };

static void put_ctx(uint16_t *w, const struct e1000e_ctx *c)
{
	const uint16_t v[8] = { c->ipcss, c->ipcso, c->ipcse, c->tucss, c->tucso, c->tucse, c->hdr_len, c->mss };

	memcpy(w, v, sizeof(v));
}

static struct e1000e_ctx get_ctx(const uint16_t *w, uint8_t tucmd)
{
	return (struct e1000e_ctx){ w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], tucmd };
}

/* The packets' bytes follow the table, each with the commands of its descriptors and contexts in front. */
#define TX_HEAD 5u

static int save_tx(const struct e1000e *d, unsigned q, struct snap_out *o)
{
	const struct e1000e_tx *t = &d->tx[q];
	uint8_t *p = malloc(TX_HEAD + t->len);
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	memcpy(p, (const uint8_t[TX_HEAD]){ t->popts, t->cmd, t->last_cmd, t->ctx.tucmd, t->c.tucmd }, TX_HEAD);
	memcpy(p + TX_HEAD, t->buf, t->len);
	snprintf(id, sizeof(id), "%s.tx%u", d->id, q);
	ret = snap_put_blob(o, id, p, TX_HEAD + t->len);
	free(p);
	return ret;
}

static int dev_save(struct dev *dev, struct snap_out *o)
{
	struct e1000e *d = of_dev(dev);
	struct state *s = calloc(1, sizeof(*s));
	int ret = s ? pci_dev_save(&d->pci, o) : -ENOMEM;

	if (ret) {
		free(s);
		return ret;
	}
	memcpy(s->mac, d->mac, sizeof(s->mac));
	memcpy(s->phy, d->phy, sizeof(s->phy));
	memcpy(s->next_ns, d->next_ns, sizeof(s->next_ns));
	memcpy(s->addr, d->addr, sizeof(s->addr));
	s->io_addr = d->io_addr;
	s->told = d->told;
	s->time_base = d->time_base;
	s->cable = d->cable;
	for (unsigned q = 0; q < E_QUEUES; q++) {
		const struct e1000e_tx *t = &d->tx[q];

		put_ctx(s->ctx + 16 * q, &t->ctx);
		put_ctx(s->ctx + 16 * q + 8, &t->c);
		s->flags[q] = (uint16_t)((t->begun ? F_BEGUN : 0) | (t->bad ? F_BAD : 0) | (t->whole ? F_WHOLE : 0) | (t->segments ? F_SEGMENTS : 0));
		s->len[q] = t->len;
		s->done[q] = t->done;
		memcpy(s->h + NET_VHDR_LEN * q, &t->h, NET_VHDR_LEN);
	}
	ret = snap_put(o, d->id, &table, s);
	free(s);
	for (unsigned q = 0; q < E_QUEUES && !ret; q++)
		ret = save_tx(d, q, o);
	return ret;
}

static int load_tx(struct e1000e *d, unsigned q, const struct state *s, struct snap_in *in, struct err *e)
{
	struct e1000e_tx *t = &d->tx[q];
	uint8_t *p = malloc(TX_HEAD + TX_BUF);
	uint32_t len = 0;
	char id[48];
	int ret;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(id, sizeof(id), "%s.tx%u", d->id, q);
	ret = snap_get_blob(in, id, p, TX_HEAD + TX_BUF, &len, e);
	if (!ret && (len < TX_HEAD || len - TX_HEAD != s->len[q]))
		ret = err_set(e, -EINVAL, "saved state of card %s is damaged", d->id);
	if (!ret) {
		t->popts = p[0];
		t->cmd = p[1];
		t->last_cmd = p[2];
		t->ctx = get_ctx(s->ctx + 16 * q, p[3]);
		t->c = get_ctx(s->ctx + 16 * q + 8, p[4]);
		t->begun = s->flags[q] & F_BEGUN;
		t->bad = s->flags[q] & F_BAD;
		t->whole = s->flags[q] & F_WHOLE;
		t->segments = s->flags[q] & F_SEGMENTS;
		t->len = s->len[q];
		t->done = s->done[q];
		memcpy(&t->h, s->h + NET_VHDR_LEN * q, NET_VHDR_LEN);
		memcpy(t->buf, p + TX_HEAD, t->len);
		if (!e1000e_tx_loaded(d, t))
			ret = err_set(e, -EINVAL, "saved state of card %s has a packet that no driver sends", d->id);
	}
	free(p);
	return ret;
}

static void load_regs(struct e1000e *d, const struct state *s)
{
	memcpy(d->mac, s->mac, sizeof(d->mac));
	memcpy(d->phy, s->phy, sizeof(d->phy));
	memcpy(d->next_ns, s->next_ns, sizeof(d->next_ns));
	d->io_addr = s->io_addr;
	d->told = s->told;
	d->time_base = s->time_base;
	d->cable = s->cable & 1;
	e1000e_regs_loaded(d);
	/* No vector waits longer than its register can say. */
	for (unsigned i = 0; i <= E_VECTORS; i++)
		if (d->next_ns[i] > clock_now(d->m->clock) + 0xffffll * 256)
			d->next_ns[i] = 0;
}

static int dev_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct e1000e *d = of_dev(dev);
	struct state *s = calloc(1, sizeof(*s));
	int ret = s ? pci_dev_load(&d->pci, in, e) : err_set(e, -ENOMEM, "out of memory");

	if (!ret)
		ret = snap_get(in, d->id, &table, s, e);
	if (!ret && memcmp(s->addr, d->addr, sizeof(s->addr)))
		ret = err_set(e, -EINVAL, "saved state of card %s has another address", d->id);
	if (!ret) {
		reset(d);
		load_regs(d, s);
	}
	for (unsigned q = 0; q < E_QUEUES && !ret; q++)
		ret = load_tx(d, q, s, in, e);
	if (ret)
		reset(d);
	free(s);
	return ret;
}

/* ---- construction ---- */

static void dev_free(struct dev *dev)
{
	struct e1000e *d = of_dev(dev);

	vtimer_cancel(&d->throttle);
	loop_bh_cancel(&d->tx_bh);
	loop_bh_cancel(&d->rx_bh);
	net_close(d->b);
	pci_dev_fini(&d->pci);
	free(d);
}

static const struct pci_dev_ops pci_ops = {
	.dev = {
		.name = "e1000e",
		.reset = dev_reset,
		.pause = dev_pause,
		.resume = dev_resume,
		.save = dev_save,
		.load = dev_load,
		.free = dev_free,
	},
};

static int add_parts(struct e1000e *d)
{
	struct pci_dev *p = &d->pci;
	int ret = pci_dev_add_bar(p, 0, PCI_BAR_MEM32, false, MMIO_SIZE, &mmio_ops, d);

	if (!ret)
		ret = pci_dev_add_bar(p, 1, PCI_BAR_MEM32, false, FLASH_SIZE, &flash_ops, d);
	if (!ret)
		ret = pci_dev_add_bar(p, 2, PCI_BAR_IO, false, IO_SIZE, &io_ops, d);
	if (!ret)
		ret = pci_dev_add_bar(p, 3, PCI_BAR_MEM32, false, MSIX_SIZE, &msix_ops, d);
	if (!ret)
		ret = pci_dev_add_msi(p, 1);
	if (!ret)
		ret = pci_dev_add_msix(p, E_VECTORS, 3, MSIX_TABLE, MSIX_PBA);
	if (!ret)
		pci_dev_add_pcie(p, 0);
	return ret;
}

int e1000e_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, struct net_backend *b, const uint8_t mac[6],
	       struct e1000e **out, struct err *e)
{
	static const struct pci_ids ids = { .vendor = 0x8086, .device = 0x10d3, .sub_vendor = 0x8086, .sub_device = 0, .class24 = 0x020000 };
	struct e1000e *d = calloc(1, sizeof(*d));
	const struct net_card card = { .recv = e1000e_recv, .tx_ready = tx_ready, .link = on_link, .opaque = d };
	int ret;

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->m = m;
	d->b = b;
	d->cable = true;
	memcpy(d->addr, mac, 6);
	snprintf(d->id, sizeof(d->id), "%s", id);
	loop_bh_init(m->loop, &d->tx_bh, e1000e_tx_run, d);
	loop_bh_init(m->loop, &d->rx_bh, e1000e_rx_again, d);
	e1000e_irq_init(d);
	e1000e_nvm_init(d);
	ret = pci_dev_init(&d->pci, m, bus, devfn, &pci_ops, &ids, e);
	if (ret) {
		free(d);
		return ret;
	}
	pci_dev_use_intx(&d->pci, 1);
	ret = add_parts(d);
	if (ret) {
		pci_dev_fini(&d->pci);
		free(d);
		return err_set(e, ret, "cannot build the PCI function of %s", id);
	}
	pci_dev_ready(&d->pci);
	reset(d);
	net_attach(b, &card);
	/* What is sent may be left undone; what comes is whole. */
	b->ops->set_offloads(b, b->offloads & (NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6));
	*out = d;
	return 0;
}

struct pci_dev *e1000e_pci(struct e1000e *d)
{
	return &d->pci;
}

void e1000e_get_stats(const struct e1000e *d, struct e1000e_stats *out)
{
	*out = d->stats;
}

void e1000e_set_link(struct e1000e *d, bool up)
{
	set_cable(d, up);
}
