// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TPM command response buffer interface: see tpm_crb.h.
 *
 * The buffer takes the rest of the page behind the registers.  While a command
 * executes it belongs to the TPM: writes are lost.
 */
#include "chipset/tpm_crb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/tpm_save.h"
#include "machine/machine.h"

enum { LOC_STATE = 0x00, LOC_CTRL = 0x08, LOC_STS = 0x0c, INTF_ID = 0x30, INTF_ID2 = 0x34, CTRL_REQ = 0x40, CTRL_STS = 0x44,
       CTRL_CANCEL = 0x48, CTRL_START = 0x4c, INT_ENABLE = 0x50, INT_STS = 0x54, CMD_SIZE = 0x58, CMD_LADDR = 0x5c,
       CMD_HADDR = 0x60, RSP_SIZE = 0x64, RSP_LADDR = 0x68, RSP_HADDR = 0x6c, DATA = 0x80 };

#define BUF_SIZE (TPM_CRB_SIZE - DATA)

enum { STATE_ESTABLISHED = BIT(0), STATE_ASSIGNED = BIT(1), STATE_VALID = BIT(7) };
enum { LOC_REQUEST = BIT(0), LOC_RELINQUISH = BIT(1), LOC_SEIZE = BIT(2), LOC_RESET_ESTABLISHED = BIT(3) };
enum { GRANTED = BIT(0) };
enum { REQ_READY = BIT(0), REQ_IDLE = BIT(1) };
enum { STS_ERROR = BIT(0), STS_IDLE = BIT(1) };

/* CRB version 1, locality 0 only, transfers of 64 bytes, CRB only and that cannot be changed, revision 0. */
#define ID (1u | 1u << 4 | 3u << 11 | BIT(14) | 1u << 17 | BIT(19))
#define VENDOR 0x00011014u

struct tpm_crb {
	struct dev dev;
	struct bus_region region;
	struct tpm *tpm;
	uint64_t base;
	bool granted, idle, running, cancel;
	uint8_t buf[BUF_SIZE];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct tpm_crb, granted),
	SNAP_FIELD(struct tpm_crb, idle),
	SNAP_FIELD(struct tpm_crb, cancel),
	SNAP_ARRAY(struct tpm_crb, buf),
	SNAP_END
};
static const struct snap_table table = { "tpm-crb", 1, fields };

static void done(void *opaque, const uint8_t *response, size_t len)
{
	struct tpm_crb *c = opaque;

	if (!c->running)
		return;
	c->running = false;
	if (len <= BUF_SIZE) {
		memcpy(c->buf, response, len);
		return;
	}
	/* It does not fit: TPM_RC_FAILURE. */
	memcpy(c->buf, (const uint8_t[TPM_HEADER]){ 0x80, 0x01, 0, 0, 0, TPM_HEADER, 0, 0, 0x01, 0x01 }, TPM_HEADER);
}

static void stop(struct tpm_crb *c)
{
	if (c->running)
		tpm_drop(c->tpm);
	c->running = false;
}

/* The command is as long as it says; one that is longer than the buffer is the TPM's to refuse. */
static void start(struct tpm_crb *c)
{
	uint32_t len = __builtin_bswap32(ld_le32(c->buf + 2));

	if (c->running || c->idle || !c->granted)
		return;
	c->running = true;
	tpm_submit(c->tpm, 0, c->buf, MAX(MIN(len, BUF_SIZE), TPM_HEADER));
}

static uint32_t reg_read(struct tpm_crb *c, unsigned reg)
{
	switch (reg) {
	case LOC_STATE:
		return STATE_VALID | (c->granted ? STATE_ASSIGNED : 0) | (tpm_established(c->tpm) ? STATE_ESTABLISHED : 0);
	case LOC_STS: return c->granted ? GRANTED : 0;
	case INTF_ID: return ID;
	case INTF_ID2: return VENDOR;
	case CTRL_STS: return c->idle ? STS_IDLE : 0;
	case CTRL_CANCEL: return c->cancel;
	case CTRL_START: return c->running;
	case CMD_SIZE:
	case RSP_SIZE: return BUF_SIZE;
	case CMD_LADDR:
	case RSP_LADDR: return (uint32_t)(c->base + DATA);
	case CMD_HADDR:
	case RSP_HADDR: return (uint32_t)((c->base + DATA) >> 32);
	default: return 0;
	}
}

static void loc_ctrl(struct tpm_crb *c, uint32_t v)
{
	if (v & LOC_RESET_ESTABLISHED)
		tpm_reset_established(c->tpm, 0);
	if (v & LOC_RELINQUISH) {
		stop(c);
		c->granted = false;
	} else if (v & (LOC_REQUEST | LOC_SEIZE)) {
		c->granted = true;
	}
}

static void reg_write(struct tpm_crb *c, unsigned reg, uint32_t v)
{
	switch (reg) {
	case LOC_CTRL:
		loc_ctrl(c, v);
		break;
	case CTRL_REQ:
		/* The bits clear at once: it is done. */
		if (!c->granted)
			break;
		if (v & REQ_READY) {
			c->idle = false;
		} else if (v & REQ_IDLE) {
			stop(c);
			c->idle = true;
		}
		break;
	case CTRL_CANCEL:
		c->cancel = v & 1;
		if (c->cancel && c->running)
			tpm_cancel(c->tpm);
		break;
	case CTRL_START:
		if (v & 1)
			start(c);
		break;
	}
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	struct tpm_crb *c = opaque;
	uint64_t v;

	if (off >= DATA)
		return ld_le(c->buf + (off - DATA), len);
	v = reg_read(c, (unsigned)off & ~3u);
	if (len == 8)
		return v | (uint64_t)reg_read(c, (unsigned)off + 4) << 32;
	return v >> (8 * (off & 3));
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct tpm_crb *c = opaque;

	if (off >= DATA) {
		if (!c->running)
			st_le(c->buf + (off - DATA), len, val);
		return;
	}
	/* No register has anything in its upper bytes. */
	if (!(off & 3))
		reg_write(c, (unsigned)off, (uint32_t)val);
	if (len == 8)
		reg_write(c, (unsigned)off + 4, (uint32_t)(val >> 32));
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write };

static void crb_reset(struct dev *d)
{
	struct tpm_crb *c = container_of(d, struct tpm_crb, dev);

	tpm_reset(c->tpm);
	c->running = c->granted = c->cancel = false;
	c->idle = true;
	memset(c->buf, 0, sizeof(c->buf));
}

static int crb_save(struct dev *d, struct snap_out *o)
{
	struct tpm_crb *c = container_of(d, struct tpm_crb, dev);
	int ret = tpm_wait_idle(c->tpm, TPM_SAVE_MS);

	if (!ret)
		ret = snap_put(o, d->id, &table, c);
	return ret ? ret : tpm_save_blobs(c->tpm, o, d->id);
}

static int crb_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct tpm_crb *c = container_of(d, struct tpm_crb, dev);
	int ret = snap_get(in, d->id, &table, c, e);

	c->running = false;
	if (!ret)
		ret = tpm_load_blobs(c->tpm, in, d->id, e);
	if (ret)
		crb_reset(d);
	return ret;
}

static void crb_free(struct dev *d)
{
	struct tpm_crb *c = container_of(d, struct tpm_crb, dev);
	const struct tpm_front none = { 0 };

	tpm_drop(c->tpm);
	tpm_attach(c->tpm, &none);
	bus_del(&c->region);
	dev_del(d);
	free(c);
}

static const struct dev_ops crb_dev_ops = {
	.name = "tpm-crb",
	.reset = crb_reset,
	.save = crb_save,
	.load = crb_load,
	.free = crb_free,
};

int tpm_crb_new(struct machine *m, uint64_t base, struct tpm *tpm)
{
	struct tpm_crb *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return -ENOMEM;
	c->base = base;
	c->tpm = tpm;
	c->region = (struct bus_region){ .name = "tpm-crb", .ops = &mmio_ops, .opaque = c, .base = base, .size = TPM_CRB_SIZE, .priority = 1 };
	ret = bus_add(m->mmio, &c->region);
	if (ret) {
		free(c);
		return ret;
	}
	tpm_attach(tpm, &(struct tpm_front){ .done = done, .opaque = c });
	dev_add(m, &c->dev, &crb_dev_ops, "pc.tpm");
	crb_reset(&c->dev);
	return 0;
}
