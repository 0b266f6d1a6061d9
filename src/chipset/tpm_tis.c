// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TPM FIFO interface: see tpm_tis.h.
 *
 * Each locality has a page of registers; one of them at a time is active and owns the
 * command buffer, whose state machine (6.5.2.5) is `state`: idle, ready, reception,
 * execution, completion.  A locality that loses the TPM in the midst of something
 * loses that too.
 */
#include "chipset/tpm_tis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/tpm_save.h"
#include "machine/machine.h"

enum { ACCESS = 0x00, INT_ENABLE = 0x08, INT_VECTOR = 0x0c, INT_STATUS = 0x10, CAPABILITY = 0x14, STS = 0x18, FIFO = 0x24,
       INTERFACE_ID = 0x30, XFIFO = 0x80, XFIFO_END = 0xc0, DID_VID = 0xf00, RID = 0xf04 };

enum { ACCESS_NOT_ESTABLISHED = BIT(0), ACCESS_REQUEST = BIT(1), ACCESS_PENDING = BIT(2), ACCESS_SEIZE = BIT(3),
       ACCESS_SEIZED = BIT(4), ACCESS_ACTIVE = BIT(5), ACCESS_VALID = BIT(7) };

enum { STS_RETRY = BIT(1), STS_SELFTEST_DONE = BIT(2), STS_EXPECT = BIT(3), STS_DATA = BIT(4), STS_GO = BIT(5), STS_READY = BIT(6),
       STS_VALID = BIT(7), STS_CANCEL = BIT(24), STS_RESET_ESTABLISHED = BIT(25), STS_TPM2 = BIT(26) };

enum { INT_DATA = BIT(0), INT_VALID = BIT(1), INT_LOCALITY = BIT(2), INT_READY = BIT(7), INT_GLOBAL = BIT(31) };
#define INT_ALL (INT_DATA | INT_VALID | INT_LOCALITY | INT_READY)
#define INT_POLARITY 0x18u

/* Interface 1.3 for TPM 2.0, transfers of 64 bytes, low level, the four interrupts. */
#define CAPABILITIES (3u << 28 | 3u << 9 | BIT(4) | INT_ALL)
/* FIFO interface of the profile, five localities, FIFO only and that cannot be changed. */
#define ID (BIT(8) | BIT(13) | BIT(19))
#define VENDOR 0x00011014u

#define NOBODY 0xff

enum { IDLE, READY, RECEPTION, EXECUTION, COMPLETION };

struct tis_locality {
	bool request, seized;
	uint32_t int_enable;
	uint8_t int_status;
};

struct tpm_tis {
	struct dev dev;
	struct tpm_tis_config cfg;
	struct bus_region region;
	struct tis_locality loc[TPM_TIS_LOCALITIES];
	uint8_t active;			/* locality, or NOBODY */
	uint8_t state;
	bool expect;			/* reception: more bytes are missing */
	uint32_t pos, len;		/* reception: len bytes are there; completion: pos of len are read */
	uint8_t buf[TPM_BUFFER];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct tpm_tis, active),
	SNAP_FIELD(struct tpm_tis, state),
	SNAP_FIELD(struct tpm_tis, expect),
	SNAP_FIELD(struct tpm_tis, pos),
	SNAP_FIELD(struct tpm_tis, len),
	SNAP_ARRAY(struct tpm_tis, buf),
	SNAP_END
};
static const struct snap_table table = { "tpm-tis", 1, fields };
static const struct snap_field locality_fields[] = {
	SNAP_FIELD(struct tis_locality, request),
	SNAP_FIELD(struct tis_locality, seized),
	SNAP_FIELD(struct tis_locality, int_enable),
	SNAP_FIELD(struct tis_locality, int_status),
	SNAP_END
};
static const struct snap_table locality_table = { "tpm-tis-locality", 1, locality_fields };

/* ---- interrupts ---- */

static void update_irq(struct tpm_tis *t)
{
	bool level = false;

	for (unsigned i = 0; i < TPM_TIS_LOCALITIES; i++)
		level |= t->loc[i].int_enable & INT_GLOBAL && t->loc[i].int_enable & t->loc[i].int_status;
	irq_set(&t->cfg.irq, level);
}

static void raise(struct tpm_tis *t, unsigned locality, uint8_t what)
{
	struct tis_locality *l = &t->loc[locality];

	/* Only what is enabled is noted (6.5.2.7). */
	if (l->int_enable & INT_GLOBAL)
		l->int_status |= what & (uint8_t)l->int_enable;
	update_irq(t);
}

/* ---- the command buffer ---- */

static void to_idle(struct tpm_tis *t)
{
	if (t->state == EXECUTION)
		tpm_drop(t->cfg.tpm);
	t->state = IDLE;
	t->expect = false;
	t->pos = t->len = 0;
}

static void to_ready(struct tpm_tis *t)
{
	to_idle(t);
	t->state = READY;
	raise(t, t->active, INT_READY);
}

static uint32_t command_size(const struct tpm_tis *t)
{
	return __builtin_bswap32(ld_le32(t->buf + 2));
}

static void take_byte(struct tpm_tis *t, uint8_t b)
{
	if (t->state == READY) {
		t->state = RECEPTION;
		t->expect = true;
		t->len = 0;
	}
	if (t->state != RECEPTION || !t->expect)
		return;
	if (t->len < TPM_BUFFER)
		t->buf[t->len++] = b;
	/* A size that no buffer has: what came is all there will be. */
	if (t->len == TPM_BUFFER || (t->len >= 6 && t->len >= command_size(t))) {
		t->expect = false;
		raise(t, t->active, INT_VALID);
	}
}

static uint8_t give_byte(struct tpm_tis *t)
{
	uint8_t b;

	if (t->state != COMPLETION || t->pos >= t->len)
		return 0xff;
	b = t->buf[t->pos++];
	if (t->pos == t->len)
		raise(t, t->active, INT_VALID);
	return b;
}

static void go(struct tpm_tis *t)
{
	if (t->state != RECEPTION || t->expect)
		return;
	t->state = EXECUTION;
	tpm_submit(t->cfg.tpm, t->active, t->buf, t->len);
}

static void done(void *opaque, const uint8_t *response, size_t len)
{
	struct tpm_tis *t = opaque;

	if (t->state != EXECUTION)
		return;
	memcpy(t->buf, response, len);
	t->len = (uint32_t)len;
	t->pos = 0;
	t->state = COMPLETION;
	raise(t, t->active, INT_VALID | INT_DATA);
}

/* ---- localities ---- */

static bool other_requests(const struct tpm_tis *t, unsigned locality)
{
	for (unsigned i = 0; i < TPM_TIS_LOCALITIES; i++)
		if (i != locality && t->loc[i].request)
			return true;
	return false;
}

static void give_to(struct tpm_tis *t, uint8_t locality)
{
	to_idle(t);
	t->active = locality;
	if (locality == NOBODY)
		return;
	t->loc[locality].request = false;
	t->loc[locality].seized = false;
	raise(t, locality, INT_LOCALITY);
}

static void release(struct tpm_tis *t)
{
	uint8_t next = NOBODY;

	for (uint8_t i = 0; i < TPM_TIS_LOCALITIES; i++)
		if (t->loc[i].request)
			next = i;		/* the highest */
	give_to(t, next);
}

static void access_write(struct tpm_tis *t, uint8_t locality, uint8_t v)
{
	struct tis_locality *l = &t->loc[locality];

	if (v & ACCESS_SEIZED)
		l->seized = false;
	if (v & ACCESS_ACTIVE) {
		l->request = false;
		if (t->active == locality)
			release(t);
	} else if (v & ACCESS_SEIZE && (t->active == NOBODY || t->active < locality)) {
		if (t->active != NOBODY)
			t->loc[t->active].seized = true;
		give_to(t, locality);
	} else if (v & ACCESS_REQUEST && t->active != locality) {
		if (t->active == NOBODY)
			give_to(t, locality);
		else
			l->request = true;
	}
}

static uint8_t access_read(struct tpm_tis *t, unsigned locality)
{
	const struct tis_locality *l = &t->loc[locality];

	return (uint8_t)(ACCESS_VALID | (t->active == locality ? ACCESS_ACTIVE : 0) | (l->seized ? ACCESS_SEIZED : 0) |
			 (l->request ? ACCESS_REQUEST : 0) | (other_requests(t, locality) ? ACCESS_PENDING : 0) |
			 (tpm_established(t->cfg.tpm) ? 0 : ACCESS_NOT_ESTABLISHED));
}

/* ---- status ---- */

static uint32_t sts_read(struct tpm_tis *t, unsigned locality)
{
	uint32_t v = STS_TPM2 | STS_SELFTEST_DONE, burst = 0;

	if (t->active != locality)
		return 0xffffffff;
	switch (t->state) {
	case READY:
		v |= STS_VALID | STS_READY;
		burst = TPM_BUFFER;
		break;
	case RECEPTION:
		v |= STS_VALID | (t->expect ? STS_EXPECT : 0);
		burst = TPM_BUFFER - t->len;
		break;
	case COMPLETION:
		v |= STS_VALID | (t->pos < t->len ? STS_DATA : 0);
		burst = t->len - t->pos;
		break;
	}
	return v | burst << 8;
}

static void sts_write(struct tpm_tis *t, unsigned locality, uint32_t v)
{
	if (t->active != locality)
		return;
	if (v & STS_CANCEL && t->state == EXECUTION)
		tpm_cancel(t->cfg.tpm);
	if (v & STS_RESET_ESTABLISHED && locality >= 3)
		tpm_reset_established(t->cfg.tpm, (uint8_t)locality);
	/* One of the three at a time. */
	switch (v & (STS_READY | STS_GO | STS_RETRY)) {
	case STS_READY:
		if (t->state != READY)
			to_ready(t);
		break;
	case STS_GO:
		go(t);
		break;
	case STS_RETRY:
		if (t->state == COMPLETION)
			t->pos = 0;
		break;
	}
}

/* ---- registers ---- */

static uint32_t reg_read(struct tpm_tis *t, unsigned locality, unsigned reg)
{
	const struct tis_locality *l = &t->loc[locality];

	switch (reg) {
	case ACCESS: return access_read(t, locality);
	case INT_ENABLE: return l->int_enable;
	case INT_VECTOR: return t->cfg.vector;
	case INT_STATUS: return l->int_status;
	case CAPABILITY: return CAPABILITIES;
	case STS: return sts_read(t, locality);
	case INTERFACE_ID: return ID;
	case DID_VID: return VENDOR;
	case RID: return 1;
	default: return 0xffffffff;
	}
}

static bool is_fifo(unsigned reg)
{
	return (reg & ~3u) == FIFO || (reg >= XFIFO && reg < XFIFO_END);
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	struct tpm_tis *t = opaque;
	unsigned locality = (unsigned)off >> 12, reg = off & 0xfff;
	uint64_t v = 0;

	if (!is_fifo(reg))
		return reg_read(t, locality, reg & ~3u) >> (8 * (reg & 3));
	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)(t->active == locality ? give_byte(t) : 0xff) << (8 * i);
	return v;
}

static void int_enable_write(struct tpm_tis *t, unsigned locality, uint32_t v)
{
	if (t->active != locality)
		return;
	t->loc[locality].int_enable = v & (INT_GLOBAL | INT_POLARITY | INT_ALL);
	update_irq(t);
}

/* Bytes of a register are written where they are; the others count as zero, which all of these take for nothing. */
static void reg_write(struct tpm_tis *t, unsigned locality, unsigned reg, uint32_t v, bool whole)
{
	switch (reg) {
	case ACCESS:
		access_write(t, (uint8_t)locality, (uint8_t)v);
		break;
	case INT_ENABLE:
		if (whole)
			int_enable_write(t, locality, v);
		break;
	case INT_STATUS:
		t->loc[locality].int_status &= (uint8_t)~v;
		update_irq(t);
		break;
	case STS:
		sts_write(t, locality, v);
		break;
	}
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct tpm_tis *t = opaque;
	unsigned locality = (unsigned)off >> 12, reg = off & 0xfff;

	if (!is_fifo(reg)) {
		reg_write(t, locality, reg & ~3u, (uint32_t)(val << (8 * (reg & 3))), len == 4);
		return;
	}
	for (unsigned i = 0; i < len && t->active == locality; i++)
		take_byte(t, (uint8_t)(val >> (8 * i)));
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .max_len = 4 };

/* ---- life ---- */

static void tis_reset(struct dev *d)
{
	struct tpm_tis *t = container_of(d, struct tpm_tis, dev);

	tpm_reset(t->cfg.tpm);
	memset(t->loc, 0, sizeof(t->loc));
	for (unsigned i = 0; i < TPM_TIS_LOCALITIES; i++)
		t->loc[i].int_enable = 1u << 3;		/* low level */
	t->active = NOBODY;
	t->state = IDLE;
	t->expect = false;
	t->pos = t->len = 0;
	memset(t->buf, 0, sizeof(t->buf));
	update_irq(t);
}

static int tis_save(struct dev *d, struct snap_out *o)
{
	struct tpm_tis *t = container_of(d, struct tpm_tis, dev);
	int ret = tpm_wait_idle(t->cfg.tpm, TPM_SAVE_MS);

	if (!ret)
		ret = snap_put(o, d->id, &table, t);
	for (unsigned i = 0; i < TPM_TIS_LOCALITIES && !ret; i++)
		ret = snap_put(o, d->id, &locality_table, &t->loc[i]);
	return ret ? ret : tpm_save_blobs(t->cfg.tpm, o, d->id);
}

static bool sane(const struct tpm_tis *t)
{
	/* Nothing executes in a saved state. */
	if ((t->active >= TPM_TIS_LOCALITIES && t->active != NOBODY) || t->state > COMPLETION || t->state == EXECUTION ||
	    t->len > TPM_BUFFER || t->pos > t->len || (t->active == NOBODY && t->state != IDLE))
		return false;
	for (unsigned i = 0; i < TPM_TIS_LOCALITIES; i++)
		if (t->loc[i].int_enable & ~(INT_GLOBAL | INT_POLARITY | INT_ALL) || t->loc[i].int_status & ~INT_ALL)
			return false;
	return t->expect == (t->state == RECEPTION && t->len < TPM_BUFFER && (t->len < 6 || t->len < command_size(t)));
}

static int tis_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct tpm_tis *t = container_of(d, struct tpm_tis, dev);
	int ret = snap_get(in, d->id, &table, t, e);

	for (unsigned i = 0; i < TPM_TIS_LOCALITIES && !ret; i++)
		ret = snap_get(in, d->id, &locality_table, &t->loc[i], e);
	if (!ret && !sane(t))
		ret = err_set(e, -EINVAL, "saved state of %s makes no sense", d->id);
	if (!ret)
		ret = tpm_load_blobs(t->cfg.tpm, in, d->id, e);
	if (ret)
		tis_reset(d);
	update_irq(t);
	return ret;
}

static void tis_free(struct dev *d)
{
	struct tpm_tis *t = container_of(d, struct tpm_tis, dev);
	const struct tpm_front none = { 0 };

	tpm_drop(t->cfg.tpm);
	tpm_attach(t->cfg.tpm, &none);
	bus_del(&t->region);
	dev_del(d);
	free(t);
}

static const struct dev_ops tis_dev_ops = {
	.name = "tpm-tis",
	.reset = tis_reset,
	.save = tis_save,
	.load = tis_load,
	.free = tis_free,
};

int tpm_tis_new(struct machine *m, const struct tpm_tis_config *cfg)
{
	struct tpm_tis *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->cfg = *cfg;
	t->region = (struct bus_region){ .name = "tpm-tis", .ops = &mmio_ops, .opaque = t, .base = cfg->base,
					 .size = TPM_TIS_SIZE, .priority = 1 };
	ret = bus_add(m->mmio, &t->region);
	if (ret) {
		free(t);
		return ret;
	}
	tpm_attach(cfg->tpm, &(struct tpm_front){ .done = done, .opaque = t });
	dev_add(m, &t->dev, &tis_dev_ops, "pc.tpm");
	tis_reset(&t->dev);
	return 0;
}
