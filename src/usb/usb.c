/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports, and packets on their way to a device and back.
 *
 * A packet belongs to its device from usb_submit until it is completed or
 * cancelled, which p->dev tells; so a device that completes a packet twice, or one
 * that was cancelled, does nothing.
 */
#include "usb/usb.h"

#include "base/bits.h"
#include "base/iov.h"

/* ---- ports ---- */

void usb_plug(struct usb_port *port, struct usb_device *d)
{
	port->dev = d;
	d->port = port;
	d->suspended = false;
	d->ops->reset(d);
	port->changed(port);
}

void usb_unplug(struct usb_device *d)
{
	struct usb_port *port = d->port;

	if (!port)
		return;
	port->dev = NULL;
	d->port = NULL;
	port->changed(port);
}

void usb_reset(struct usb_device *d)
{
	d->suspended = false;
	d->ops->reset(d);
}

void usb_suspend(struct usb_device *d, bool on)
{
	if (d->suspended == on)
		return;
	d->suspended = on;
	if (d->ops->suspend)
		d->ops->suspend(d, on);
}

void usb_wakeup(struct usb_device *d)
{
	if (d->suspended && d->port)
		d->port->wakeup(d->port);
}

/* ---- packets ---- */

void usb_submit(struct usb_device *d, struct usb_packet *p)
{
	p->status = USB_PENDING;
	p->actual = 0;
	p->dev = d;
	if (p->kind == USB_CONTROL)
		d->ops->control(d, p);
	else
		d->ops->data(d, p);
}

void usb_cancel(struct usb_packet *p)
{
	struct usb_device *d = p->dev;

	if (!d)
		return;
	p->dev = NULL;
	d->ops->cancel(d, p);
}

void usb_complete(struct usb_packet *p, enum usb_status status, size_t actual)
{
	if (!p->dev)
		return;
	p->dev = NULL;
	p->status = status;
	p->actual = MIN(actual, p->len);
	p->done(p);
}

static void written(const struct usb_packet *p, size_t off, size_t len)
{
	struct mem *mem = p->dev ? p->dev->dev.m->mem : NULL;

	for (unsigned i = 0; i < p->niov && len && mem; i++) {
		size_t here = p->iov[i].iov_len, n;

		if (off >= here) {
			off -= here;
			continue;
		}
		n = MIN(here - off, len);
		mem_written_host(mem, (uint8_t *)p->iov[i].iov_base + off, n);
		len -= n;
		off = 0;
	}
}

size_t usb_put(struct usb_packet *p, size_t off, const void *buf, size_t len)
{
	size_t n = p->in ? iov_from_buf(p->iov, p->niov, off, buf, len) : 0;

	written(p, off, n);
	return n;
}

size_t usb_fill(struct usb_packet *p, size_t off, uint8_t byte, size_t len)
{
	size_t n = p->in ? iov_memset(p->iov, p->niov, off, byte, len) : 0;

	written(p, off, n);
	return n;
}

size_t usb_get(const struct usb_packet *p, size_t off, void *buf, size_t len)
{
	return p->in ? 0 : iov_to_buf(p->iov, p->niov, off, buf, len);
}

void usb_answer(struct usb_packet *p, const void *buf, size_t len)
{
	bool fits = len <= p->len;
	size_t n = usb_put(p, 0, buf, MIN(len, p->len));

	usb_complete(p, fits ? USB_OK : USB_BABBLE, n);
}

void usb_answer_control(struct usb_packet *p, const void *buf, size_t len)
{
	size_t asked = ld_le16(p->setup + 6);

	usb_complete(p, USB_OK, usb_put(p, 0, buf, MIN(MIN(len, asked), p->len)));
}
