/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The console device (virtio 1.2, 5.3).
 *
 * Flow control.  To the outside: a chain the back end took only in part is given
 * back to the queue (vq_unget) and how far it got is remembered; `writable` goes
 * on there.  To the guest: the back end asks how much fits, which is the next
 * buffer's size; when there is none the driver's kick wakes the back end.  So no
 * chain is ever held and no byte buffered here.
 *
 * Control messages to the guest (5.3.6.2) are kept as one bit each per port, in
 * the order in which they have to go, until the driver offers buffers: whatever
 * the driver does, they take no memory.
 */
#include "virtio/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

#define F_SIZE (1ull << 0)
#define F_MULTIPORT (1ull << 1)
#define F_EMERG_WRITE (1ull << 2)

#define QUEUE_SIZE 128
#define CONTROL_SIZE 32
#define Q_CONTROL_RX 2			/* to the guest */
#define Q_CONTROL_TX 3
#define BATCH 64			/* chains a turn of the loop */

/* struct virtio_console_config */
#define CONFIG_EMERG_WR 8
#define CONFIG_LEN 12

/* struct virtio_console_control: le32 port, le16 event, le16 value */
#define CONTROL_LEN 8
enum {
	EV_DEVICE_READY = 0,
	EV_PORT_ADD = 1,
	EV_PORT_REMOVE = 2,
	EV_PORT_READY = 3,
	EV_CONSOLE_PORT = 4,
	EV_RESIZE = 5,
	EV_PORT_OPEN = 6,
	EV_PORT_NAME = 7,
};

/* Messages that wait for a buffer; sent from the lowest bit up. */
enum {
	SEND_REMOVE = 1 << 0,
	SEND_ADD = 1 << 1,
	SEND_CONSOLE = 1 << 2,
	SEND_NAME = 1 << 3,
	SEND_OPEN = 1 << 4,
	SEND_RESIZE = 1 << 5,
	SEND_ALL = (1 << 6) - 1,
};

struct console;

struct port {
	struct console *con;
	unsigned id;
	struct chardev *chr;
	char name[64];
	bool present;			/* else a place for a port */
	bool console;
	uint16_t cols, rows;
	bool host_open;
	/* guest-visible state */
	bool guest_ready, guest_open;
	uint32_t send;			/* SEND_* */
	uint64_t tx_off;		/* bytes of the next chain that are out already */
};

struct console {
	struct virtio_dev dev;		/* first */
	unsigned n;
	bool driver_ready;		/* it has asked for the ports */
	bool tells;			/* the machine's watcher, of ports the guest opens */
	struct vq_chain chain;		/* scratch */
	struct port port[];
};

static struct console *of(struct virtio_dev *d)
{
	return container_of(d, struct console, dev);
}

static unsigned rx_queue(const struct port *p) { return p->id ? 2 * p->id + 2 : 0; }
static unsigned tx_queue(const struct port *p) { return rx_queue(p) + 1; }

static struct port *port_of_queue(struct console *c, unsigned q)
{
	unsigned id = q < 2 ? 0 : q / 2 - 1;

	return id < c->n ? &c->port[id] : NULL;
}

static bool live(const struct console *c)
{
	return c->dev.started && !c->dev.paused;
}

static void broken(struct console *c)
{
	virtio_dev_broken(&c->dev, "console queue");
}

/* ---- guest to host ---- */

/* Hands the rest of the chain to the back end; true when all of it is out. */
static bool write_chain(struct port *p, const struct vq_chain *chain)
{
	uint64_t skip = p->tx_off;

	for (unsigned i = 0; p->chr && i < chain->n_read; i++) {
		const uint8_t *b = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len, n;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		n = chardev_write(p->chr, b + skip, len - skip);
		p->tx_off += n;
		if (n < len - skip)
			return false;
		skip = 0;
	}
	p->tx_off = 0;
	return true;
}

static void transmit(struct port *p)
{
	struct console *c = p->con;
	struct vq *vq = &c->dev.vq[tx_queue(p)];
	unsigned batch = BATCH;
	bool stuck = false;
	int ret = 0;

	if (!live(c) || !vq->ready)
		return;
	vq_kick_enable(vq, false);
	while (!stuck && batch-- && (ret = vq_get(vq, &c->chain)) > 0) {
		stuck = !write_chain(p, &c->chain);
		if (stuck)
			vq_unget(vq);
		else
			vq_put(vq, &c->chain, 0);
	}
	vq_flush(vq);
	if (ret < 0)
		broken(c);
	else if (!stuck && vq_kick_enable(vq, true))
		virtio_dev_ring(&c->dev, tx_queue(p));
}

static void chr_writable(void *opaque)
{
	transmit(opaque);
}

/* ---- control messages to the guest ---- */

static uint64_t put_message(const struct port *p, unsigned what, const struct vq_chain *chain)
{
	uint8_t msg[CONTROL_LEN + sizeof(p->name)];
	size_t len = CONTROL_LEN;
	unsigned event = EV_PORT_ADD, value = 1;

	switch (what) {
	case SEND_REMOVE:
		event = EV_PORT_REMOVE;
		break;
	case SEND_ADD:
		break;
	case SEND_CONSOLE:
		event = EV_CONSOLE_PORT;
		break;
	case SEND_NAME:
		event = EV_PORT_NAME;
		memcpy(msg + len, p->name, strlen(p->name));
		len += strlen(p->name);
		break;
	case SEND_OPEN:
		event = EV_PORT_OPEN;
		value = p->host_open;
		break;
	case SEND_RESIZE:
	default:
		event = EV_RESIZE;
		value = 0;
		st_le16(msg + len, p->cols);
		st_le16(msg + len + 2, p->rows);
		len += 4;
		break;
	}
	st_le32(msg, p->id);
	st_le16(msg + 4, event);
	st_le16(msg + 6, value);
	return iov_from_buf(chain->iov + chain->n_read, chain->n_write, 0, msg, len);
}

static void send_control(struct console *c)
{
	struct vq *vq = &c->dev.vq[Q_CONTROL_RX];
	int ret = 0;

	if (!live(c) || !virtio_has(&c->dev, F_MULTIPORT) || !vq->ready)
		return;
	for (struct port *p = c->port; p < c->port + c->n; p++) {
		while (p->send) {
			unsigned what = p->send & -p->send;

			ret = vq_get(vq, &c->chain);
			if (!ret && vq_kick_enable(vq, true))
				ret = vq_get(vq, &c->chain);
			if (ret <= 0)
				goto out;
			vq_put(vq, &c->chain, put_message(p, what, &c->chain));
			p->send &= ~what;
		}
	}
	vq_kick_enable(vq, false);
out:
	vq_flush(vq);
	if (ret < 0)
		broken(c);
}

/* ---- host to guest ---- */

/* Data before the guest opened the port would be lost there. */
static bool takes_input(const struct port *p)
{
	const struct console *c = p->con;

	if (!live(c) || !c->dev.vq[rx_queue(p)].ready)
		return false;
	return !virtio_has(&c->dev, F_MULTIPORT) || p->guest_open || (p->console && p->guest_ready);
}

static size_t chr_can_read(void *opaque)
{
	struct port *p = opaque;
	struct console *c = p->con;
	struct vq *vq = &c->dev.vq[rx_queue(p)];
	int ret;

	if (!takes_input(p))
		return 0;
	ret = vq_get(vq, &c->chain);
	if (!ret && vq_kick_enable(vq, true))	/* came in between */
		ret = vq_get(vq, &c->chain);
	if (ret < 0)
		broken(c);
	if (ret <= 0)
		return 0;
	vq_unget(vq);
	vq_kick_enable(vq, false);
	/* A buffer with no room would stop the stream for good: say one byte fits,
	 * chr_read passes over it. */
	return MAX(c->chain.len_write, 1ull);
}

static void host_opens(struct port *p, bool open);

static void chr_read(void *opaque, const uint8_t *buf, size_t len)
{
	struct port *p = opaque;
	struct console *c = p->con;
	struct vq *vq = &c->dev.vq[rx_queue(p)];
	int ret = 0;

	host_opens(p, true);		/* somebody came back */
	while (len && takes_input(p) && (ret = vq_get(vq, &c->chain)) > 0) {
		size_t n = iov_from_buf(c->chain.iov + c->chain.n_read, c->chain.n_write, 0, buf, len);

		vq_put(vq, &c->chain, n);
		buf += n;
		len -= n;
	}
	vq_flush(vq);
	if (ret < 0)
		broken(c);
}

/* ---- control messages to the host ---- */

static void port_ready(struct port *p)
{
	p->guest_ready = true;
	p->send |= (p->console ? SEND_CONSOLE : 0) | (p->name[0] ? SEND_NAME : 0) |
		   (p->host_open ? SEND_OPEN : 0);
	if (p->console && p->cols && virtio_has(&p->con->dev, F_SIZE))
		p->send |= SEND_RESIZE;
}

static void guest_opens(struct port *p, bool open)
{
	if (open == p->guest_open)
		return;
	p->guest_open = open;
	if (p->chr)
		chardev_guest_open(p->chr, open);
	if (p->con->tells)
		machine_tell(p->con->dev.m, MACHINE_EV_PORT_CHANGE, (int64_t)p->id << 1 | open);
}

static void take_control(struct console *c, const uint8_t *msg)
{
	uint32_t id = ld_le32(msg);
	unsigned event = ld_le16(msg + 4), value = ld_le16(msg + 6);
	struct port *p = id < c->n && c->port[id].present ? &c->port[id] : NULL;

	if (event == EV_DEVICE_READY) {
		c->driver_ready = value == 1;
		for (unsigned i = 0; value == 1 && i < c->n; i++)
			if (c->port[i].present)
				c->port[i].send |= SEND_ADD;
	} else if (event == EV_PORT_READY && p && value == 1) {
		port_ready(p);
	} else if (event == EV_PORT_OPEN && p) {
		guest_opens(p, value == 1);
	}
}

static void receive_control(struct console *c)
{
	struct vq *vq = &c->dev.vq[Q_CONTROL_TX];
	uint8_t msg[CONTROL_LEN];
	unsigned batch = BATCH;
	int ret = 0;

	vq_kick_enable(vq, false);
	while (batch-- && (ret = vq_get(vq, &c->chain)) > 0) {
		if (iov_to_buf(c->chain.iov, c->chain.n_read, 0, msg, sizeof(msg)) == sizeof(msg))
			take_control(c, msg);
		vq_put(vq, &c->chain, 0);
	}
	vq_flush(vq);
	if (ret < 0) {
		broken(c);
		return;
	}
	if (vq_kick_enable(vq, true))
		virtio_dev_ring(&c->dev, Q_CONTROL_TX);
	send_control(c);
	/* Ports that were just opened may have input waiting. */
	for (unsigned i = 0; i < c->n; i++)
		if (c->port[i].chr && takes_input(&c->port[i]))
			chardev_kick(c->port[i].chr);
}

/* ---- the back end's news ---- */

void virtio_console_resize(struct virtio_dev *d, unsigned port, uint16_t cols, uint16_t rows)
{
	struct console *c = of(d);
	struct port *p = port < c->n ? &c->port[port] : NULL;

	if (!p || (p->cols == cols && p->rows == rows))
		return;
	p->cols = cols;
	p->rows = rows;
	if (!virtio_has(d, F_SIZE))
		return;
	if (virtio_has(d, F_MULTIPORT)) {
		if (p->console && p->guest_ready)
			p->send |= SEND_RESIZE;
		send_control(c);
	}
	if (!port)
		virtio_dev_config_changed(d);
}

static void chr_resized(void *opaque, unsigned cols, unsigned rows)
{
	struct port *p = opaque;

	virtio_console_resize(&p->con->dev, p->id, MIN(cols, 0xffffu), MIN(rows, 0xffffu));
}

static void host_opens(struct port *p, bool open)
{
	if (p->host_open == open)
		return;
	p->host_open = open;
	if (p->guest_ready)
		p->send |= SEND_OPEN;
	send_control(p->con);
}

static void chr_hangup(void *opaque) { host_opens(opaque, false); }
static void chr_opened(void *opaque) { host_opens(opaque, true); }

bool virtio_console_port_open(struct virtio_dev *d, unsigned port)
{
	struct console *c = of(d);

	return port < c->n && takes_input(&c->port[port]);
}

/* ---- device ---- */

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	struct console *c = of(d);
	uint8_t config[CONFIG_LEN] = { 0 };

	st_le16(config, c->port[0].cols);
	st_le16(config + 2, c->port[0].rows);
	st_le32(config + 4, c->n);
	memcpy(buf, config + off, len);
}

/* 5.3.4: the emergency write works before the driver is up. */
static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	struct console *c = of(d);

	if (off == CONFIG_EMERG_WR && c->port[0].chr)
		chardev_write(c->port[0].chr, buf, 1);
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct console *c = of(d);
	struct port *p = port_of_queue(c, q);
	bool multiport = virtio_has(d, F_MULTIPORT);

	if (q == Q_CONTROL_RX || q == Q_CONTROL_TX) {
		if (multiport && q == Q_CONTROL_TX)
			receive_control(c);
		else
			send_control(c);
		return;
	}
	if (!p || (p->id && !multiport))
		return;
	if (q & 1)
		transmit(p);
	else if (p->chr)
		chardev_kick(p->chr);
}

static void port_reset(struct port *p)
{
	guest_opens(p, false);
	p->guest_ready = false;
	p->send = 0;
	p->tx_off = 0;
}

static void reset(struct virtio_dev *d)
{
	of(d)->driver_ready = false;
	for (unsigned i = 0; i < of(d)->n; i++)
		port_reset(&of(d)->port[i]);
}

static void queue_reset(struct virtio_dev *d, unsigned q)
{
	struct port *p = port_of_queue(of(d), q);

	if (p && q != Q_CONTROL_RX && q != Q_CONTROL_TX && q & 1)
		p->tx_off = 0;
}

static const struct snap_field port_fields[] = {
	SNAP_FIELD(struct port, tx_off),
	SNAP_FIELD(struct port, send),
	SNAP_FIELD(struct port, guest_ready),
	SNAP_FIELD(struct port, guest_open),
	SNAP_END,
};
static const struct snap_table port_table = { "virtio-console-port", 1, port_fields };

static const struct snap_field console_fields[] = {
	SNAP_FIELD(struct console, driver_ready),
	SNAP_END,
};
static const struct snap_table console_table = { "virtio-console", 1, console_fields };

static const char *port_id(const struct port *p, char id[48])
{
	snprintf(id, 48, "%s.p%u", p->con->dev.id, p->id);
	return id;
}

static int save(struct virtio_dev *d, struct snap_out *o)
{
	struct console *c = of(d);
	char id[48];
	int ret = snap_put(o, d->id, &console_table, c);

	for (struct port *p = c->port; !ret && p < c->port + c->n; p++)
		ret = snap_put(o, port_id(p, id), &port_table, p);
	return ret;
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct console *c = of(d);
	char id[48];
	int ret = snap_get(in, d->id, &console_table, c, e);

	for (struct port *p = c->port; !ret && p < c->port + c->n; p++) {
		ret = snap_get(in, port_id(p, id), &port_table, p, e);
		p->send &= p->present ? SEND_ALL : SEND_REMOVE;
		if (!p->present)
			p->guest_ready = p->guest_open = false;
	}
	return ret;
}

/* The back end outlives the device: it must not call a dead one. */
static size_t gone_can_read(void *opaque) { return 0; }
static void gone_read(void *opaque, const uint8_t *buf, size_t len) { }
static const struct chardev_front gone = { .can_read = gone_can_read, .read = gone_read };

static void release(struct virtio_dev *d)
{
	struct console *c = of(d);

	for (unsigned i = 0; i < c->n; i++)
		if (c->port[i].chr)
			chardev_attach(c->port[i].chr, &gone);
	virtio_dev_fini(d);
	free(c);
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-console",
	.device_id = 3,
	.pci_class = 0x078000,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.save = save,
	.load = load,
	.free = release,
};

static void port_init(struct console *c, unsigned id, const struct virtio_console_port *cfg)
{
	struct port *p = &c->port[id];
	unsigned cols = 0, rows = 0;

	p->con = c;
	p->id = id;
	p->present = !cfg->absent;
	p->chr = cfg->chr;
	p->console = cfg->console;
	p->host_open = cfg->chr && chardev_is_open(cfg->chr);
	snprintf(p->name, sizeof(p->name), "%s", cfg->name ? cfg->name : "");
	if (!p->chr)
		return;
	chardev_size(p->chr, &cols, &rows);
	p->cols = MIN(cols, 0xffffu);
	p->rows = MIN(rows, 0xffffu);
	chardev_attach(p->chr, &(struct chardev_front){ .can_read = chr_can_read, .read = chr_read,
							.writable = chr_writable, .resized = chr_resized,
							.hangup = chr_hangup, .opened = chr_opened, .opaque = p });
}

void virtio_console_tells(struct virtio_dev *d) { of(d)->tells = true; }

int virtio_console_add_port(struct virtio_dev *d, unsigned port, const struct virtio_console_port *cfg)
{
	struct console *c = of(d);

	if (port >= c->n)
		return -EINVAL;
	if (c->port[port].present)
		return -EEXIST;
	if (d->n_queues <= 2)
		return -ENOTSUP;	/* one console, and no others */
	c->port[port].tx_off = 0;
	port_init(c, port, cfg);
	if (c->driver_ready)
		c->port[port].send |= SEND_ADD;
	send_control(c);
	return 0;
}

int virtio_console_remove_port(struct virtio_dev *d, unsigned port)
{
	struct console *c = of(d);
	struct port *p = port < c->n ? &c->port[port] : NULL;

	if (!p || !p->present)
		return -ENOENT;
	guest_opens(p, false);
	if (p->chr)
		chardev_attach(p->chr, &gone);
	p->chr = NULL;
	p->present = false;
	p->name[0] = '\0';
	p->guest_ready = false;
	/* What the driver has not heard of it need not forget. */
	if (p->send & SEND_ADD)
		p->send &= SEND_REMOVE;
	else if (c->driver_ready)
		p->send = SEND_REMOVE;
	send_control(c);
	/* What it has sent and nobody reads any more comes back to it. */
	transmit(p);
	return 0;
}

int virtio_console_new(struct machine *m, const char *id, const struct virtio_console_port *ports, unsigned n,
		       bool multiport, struct virtio_dev **out, struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES];
	struct console *c;
	unsigned queues;
	int ret;

	if (!n || n > VIRTIO_CONSOLE_MAX_PORTS)
		return err_set(e, -EINVAL, "a virtio console has 1 to %d ports, not %u", VIRTIO_CONSOLE_MAX_PORTS, n);
	multiport |= n > 1;
	c = calloc(1, sizeof(*c) + n * sizeof(c->port[0]));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->n = n;
	queues = multiport ? 2 * n + 2 : 2;
	for (unsigned q = 0; q < queues; q++)
		sizes[q] = q == Q_CONTROL_RX || q == Q_CONTROL_TX ? CONTROL_SIZE : QUEUE_SIZE;
	ret = virtio_dev_init(&c->dev, m, &ops, id, F_SIZE | F_EMERG_WRITE | (multiport ? F_MULTIPORT : 0),
			      CONFIG_LEN, queues, sizes);
	if (ret) {
		free(c);
		return err_set(e, ret, "cannot create console %s: no file descriptors left", id);
	}
	for (unsigned i = 0; i < n; i++)
		port_init(c, i, &ports[i]);
	*out = &c->dev;
	return 0;
}
