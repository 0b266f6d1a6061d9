/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bulk-Only Transport (BOT 1.0): a command block comes in one packet to the
 * device, its data follows, and a status block ends it; then comes the next.
 *
 * Data that comes as one transfer of the guest's, as drivers do it, moves straight
 * between its memory and the disk.  In pieces it goes through a buffer of up to
 * BOUNCE_MAX bytes.  Data that is shorter than the guest expects is filled up with
 * zeros, as 6.7.2 allows, and the residue tells; so no endpoint is halted but by
 * nonsense, after which only a reset helps (6.6.1).
 *
 * A command counts as executed when the disk has answered.  One that was not is
 * executed (again) when its data, or the time to go on, comes: after saved state
 * was loaded, or when the controller took the data's packet back.
 */
#include "device/usb_storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "storage/scsi.h"
#include "usb/emu.h"

#define CBW_LEN 31u
#define CBW_SIGNATURE 0x43425355u
#define CSW_LEN 13u
#define CSW_SIGNATURE 0x53425355u
#define BOUNCE_MAX (1u << 20)
#define EP_IN 0x81
#define EP_OUT 0x02

enum phase { PHASE_COMMAND, PHASE_DATA, PHASE_STATUS, PHASE_BROKEN };

struct msd {
	struct usb_emu emu;		/* first */
	struct scsi_lun lun;
	bool paused, busy, aborting;
	struct usb_packet *in, *out;	/* that wait for their time */
	struct usb_packet *data;	/* whose memory the disk has just now */
	struct scsi_req req;
	bool running;			/* req is the disk's */
	/* The command. */
	uint8_t phase;
	uint8_t cdb[SCSI_CDB_MAX];
	uint32_t tag, len, moved;	/* moved: by the target */
	uint32_t passed;		/* of len, to or from the guest */
	uint8_t to_guest, executed, failed, refused;	/* refused: more data in pieces than there is a buffer for */
	uint8_t *bounce;		/* len bytes; NULL: none */
	struct iovec bounce_iov;
};

static struct msd *msd_of(struct usb_emu *u) { return container_of(u, struct msd, emu); }
static struct msd *of_usb(struct usb_device *d) { return msd_of(usb_emu_of(d)); }
static struct msd *of_dev(struct dev *d) { return of_usb(container_of(d, struct usb_device, dev)); }

static void dispatch(struct msd *s);

static void no_bounce(struct msd *s)
{
	free(s->bounce);
	s->bounce = NULL;
}

/* 6.6.1: both ways are refused until the driver resets the device. */
static void broken(struct msd *s)
{
	s->phase = PHASE_BROKEN;
	no_bounce(s);
	usb_emu_halt(&s->emu, EP_IN);
	usb_emu_halt(&s->emu, EP_OUT);
}

/* ---- the SCSI command ---- */

static void scsi_done(struct scsi_req *r)
{
	struct msd *s = container_of(r, struct msd, req);
	struct usb_packet *p = s->data;

	scsi_req_clean(r);
	s->running = false;
	if (s->aborting)
		return;
	s->executed = true;
	s->failed = r->status != SCSI_GOOD;
	s->moved = (uint32_t)MIN(r->moved, s->len);
	s->data = NULL;
	if (p) {
		s->phase = PHASE_STATUS;
		s->passed = s->len;
		if (p->in)
			usb_fill(p, s->moved, 0, s->len - s->moved);
		usb_complete(p, USB_OK, s->len);
	}
	dispatch(s);
}

/* With this packet's memory, or without one the buffer's. */
static void execute(struct msd *s, struct usb_packet *p)
{
	struct scsi_req *r = &s->req;

	*r = (struct scsi_req){ .l = &s->lun, .done = scsi_done };
	memcpy(r->cdb, s->cdb, sizeof(r->cdb));
	s->data = p;
	s->running = true;
	s->bounce_iov = (struct iovec){ s->bounce, s->len };
	if (p || s->bounce) {
		const struct iovec *iov = p ? p->iov : &s->bounce_iov;
		unsigned n = p ? p->niov : 1;

		if (s->to_guest)
			r->in = iov, r->n_in = n, r->len_in = s->len;
		else
			r->out = iov, r->n_out = n, r->len_out = s->len;
	}
	scsi_submit(r);
}

static void drop(struct disk_req *q)
{
	struct scsi_req *r = scsi_req_of(q);

	scsi_req_clean(r);
	container_of(r, struct msd, req)->running = false;
}

/* What the disk has ends, one way or another, and nobody hears of it. */
static void abort_command(struct msd *s)
{
	s->aborting = true;
	if (s->running) {
		blk_drain(s->lun.disk.node);
		disk_forget(&s->lun.disk, NULL, NULL, drop);
	}
	s->aborting = s->running = false;
	s->data = NULL;
}

/* ---- phases ---- */

static void take_command(struct msd *s, struct usb_packet *p)
{
	uint8_t b[CBW_LEN] = { 0 };
	bool whole = p->len == CBW_LEN && usb_get(p, 0, b, CBW_LEN) == CBW_LEN;
	uint8_t cdb_len = b[14] & 31;

	/* 6.2: valid, and meaningful; there is unit 0 only. */
	if (!whole || ld_le32(b) != CBW_SIGNATURE || b[12] & 0x7f || b[13] || b[14] >> 5 || !cdb_len || cdb_len > SCSI_CDB_MAX) {
		broken(s);
		usb_complete(p, USB_STALL, 0);
		return;
	}
	s->tag = ld_le32(b + 4);
	s->len = ld_le32(b + 8);
	s->to_guest = b[12] >> 7;
	memset(s->cdb, 0, sizeof(s->cdb));
	memcpy(s->cdb, b + 15, cdb_len);
	s->moved = s->passed = 0;
	s->executed = s->failed = s->refused = false;
	s->phase = s->len ? PHASE_DATA : PHASE_STATUS;
	usb_complete(p, USB_OK, CBW_LEN);
}

/* In pieces; false: there is no buffer for so much. */
static bool make_bounce(struct msd *s)
{
	if (!s->bounce && s->len <= BOUNCE_MAX)
		s->bounce = calloc(1, s->len);
	s->refused = !s->bounce;
	if (s->refused)
		s->executed = s->failed = true;
	return s->bounce;
}

static void passed(struct msd *s, size_t n)
{
	s->passed += (uint32_t)n;
	if (s->passed == s->len)
		s->phase = PHASE_STATUS;
}

/* False: it has to wait. */
static bool take_in(struct msd *s, struct usb_packet *p)
{
	size_t n = MIN(p->len, s->len - s->passed);

	if (s->running)
		return false;
	if (!s->executed && !s->passed && p->len >= s->len) {
		s->in = NULL;
		execute(s, p);
		return true;
	}
	if (!s->executed && make_bounce(s)) {
		execute(s, NULL);
		return true;
	}
	if (s->bounce)
		usb_put(p, 0, s->bounce + s->passed, n);
	else
		usb_fill(p, 0, 0, n);
	s->in = NULL;
	passed(s, n);
	usb_complete(p, USB_OK, n);
	return true;
}

static bool take_out(struct msd *s, struct usb_packet *p)
{
	if (s->running)
		return false;
	s->out = NULL;
	if (p->len > s->len - s->passed) {
		broken(s);
		usb_complete(p, USB_STALL, 0);
	} else if (!s->executed && p->len == s->len) {
		execute(s, p);
	} else {
		if (!s->executed && make_bounce(s))
			usb_get(p, 0, s->bounce + s->passed, p->len);
		passed(s, p->len);
		usb_complete(p, USB_OK, p->len);
	}
	return true;
}

static void send_status(struct msd *s, struct usb_packet *p)
{
	uint8_t b[CSW_LEN];

	st_le32(b, CSW_SIGNATURE);
	st_le32(b + 4, s->tag);
	st_le32(b + 8, s->len - s->moved);
	b[12] = s->refused ? 2 : s->failed;
	no_bounce(s);
	s->phase = PHASE_COMMAND;
	usb_answer(p, b, sizeof(b));
}

/* One step; false: nothing to do. */
static bool step(struct msd *s)
{
	struct usb_packet *p;

	switch (s->phase) {
	case PHASE_COMMAND:
		if (!(p = s->out))
			return false;
		s->out = NULL;
		take_command(s, p);
		return true;
	case PHASE_DATA:
		p = s->to_guest ? s->in : s->out;
		return p && (s->to_guest ? take_in(s, p) : take_out(s, p));
	case PHASE_STATUS:
		if (s->running)
			return false;
		if (!s->executed) {
			execute(s, NULL);
			return true;
		}
		if (!(p = s->in))
			return false;
		s->in = NULL;
		send_status(s, p);
		return true;
	case PHASE_BROKEN:
	default:
		p = s->in ? s->in : s->out;
		if (!p)
			return false;
		*(p == s->in ? &s->in : &s->out) = NULL;
		usb_emu_stall(&s->emu, p);
		return true;
	}
}

static void dispatch(struct msd *s)
{
	if (s->busy || s->paused)
		return;
	s->busy = true;
	while (step(s))
		;
	s->busy = false;
}

/* ---- USB ---- */

static void msd_data(struct usb_device *d, struct usb_packet *p)
{
	struct msd *s = of_usb(d);

	if (usb_emu_refused(&s->emu, p))
		return;
	*(p->in ? &s->in : &s->out) = p;
	dispatch(s);
}

/* A command whose data was taken back begins again if more comes for it. */
static void msd_cancel(struct usb_device *d, struct usb_packet *p)
{
	struct msd *s = of_usb(d);

	if (p == s->data)
		abort_command(s);
	if (p == s->in)
		s->in = NULL;
	if (p == s->out)
		s->out = NULL;
}

static void begin_anew(struct msd *s)
{
	struct usb_packet *p = s->data;

	abort_command(s);
	/* To the device it is what comes next. */
	if (p)
		*(p->in ? &s->in : &s->out) = p;
	no_bounce(s);
	s->phase = PHASE_COMMAND;
	s->executed = s->failed = s->refused = false;
	s->len = s->passed = s->moved = 0;
}

/* BOT, 3.1 and 3.2 */
static bool class_request(struct usb_emu *u, struct usb_packet *p)
{
	struct msd *s = msd_of(u);

	switch (p->setup[0] << 8 | p->setup[1]) {
	case 0xa1fe: usb_answer_control(p, &(uint8_t){ 0 }, 1); return true;
	case 0x21ff:
		begin_anew(s);
		usb_complete(p, USB_OK, 0);
		return true;
	default: return false;
	}
}

static void configured(struct usb_emu *u)
{
	begin_anew(msd_of(u));
}

/* 6.6.1: halts stay, whatever the driver clears, until it resets the device. */
static void unhalted(struct usb_emu *u, uint8_t address)
{
	if (msd_of(u)->phase == PHASE_BROKEN)
		usb_emu_halt(u, address);
}

static void msd_usb_reset(struct usb_device *d)
{
	usb_emu_reset(d);
	scsi_lun_reset(&of_usb(d)->lun);
}

/* USB 3.2, 9.6; vendor and product as QEMU's have them. */
static const uint8_t device[] = { 18, 1, 0x00, 0x03, 0, 0, 0, 9, 0xf4, 0x46, 0x01, 0x00, 0x00, 0x01, 1, 2, 3, 1 };
static const uint8_t config[] = {
	9, 2, 44, 0, 1, 1, 0, 0xc0, 0,
	9, 4, 0, 0, 2, 8, 6, 0x50, 0,
	7, 5, EP_IN, 2, 0x00, 0x04, 0, 6, 0x30, 15, 0, 0, 0,
	7, 5, EP_OUT, 2, 0x00, 0x04, 0, 6, 0x30, 15, 0, 0, 0,
};
static const uint8_t bos[] = { 5, 15, 22, 0, 2, 7, 16, 2, 0, 0, 0, 0, 10, 16, 3, 0, 8, 0, 3, 10, 0xff, 7 };
static const struct usb_emu_desc desc = {
	.device = device, .config = config, .config_len = sizeof(config), .bos = bos, .bos_len = sizeof(bos),
	.request = class_request, .configured = configured, .unhalted = unhalted,
};

/* ---- life cycle ---- */

static void msd_reset(struct dev *d)
{
	struct msd *s = of_dev(d);

	s->in = s->out = NULL;
	msd_usb_reset(&s->emu.usb);
}

static void msd_pause(struct dev *d)
{
	struct msd *s = of_dev(d);

	s->paused = true;
	blk_drain(s->lun.disk.node);
}

static void msd_resume(struct dev *d)
{
	struct msd *s = of_dev(d);

	s->paused = false;
	disk_retry(&s->lun.disk);
	dispatch(s);
}

struct state {
	uint64_t size;
	uint32_t tag, len, moved, passed, sense;
	uint16_t attention;
	uint8_t cdb[SCSI_CDB_MAX];
	uint8_t cd, phase, to_guest, executed, failed, refused, bounce;
	uint8_t tray_open, locked, changed, eject_asked, no_medium;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, size), SNAP_FIELD(struct state, tag), SNAP_FIELD(struct state, len), SNAP_FIELD(struct state, moved),
	SNAP_FIELD(struct state, passed), SNAP_FIELD(struct state, sense), SNAP_FIELD(struct state, attention), SNAP_ARRAY(struct state, cdb),
	SNAP_FIELD(struct state, cd), SNAP_FIELD(struct state, phase), SNAP_FIELD(struct state, to_guest), SNAP_FIELD(struct state, executed),
	SNAP_FIELD(struct state, failed), SNAP_FIELD(struct state, refused), SNAP_FIELD(struct state, bounce), SNAP_FIELD(struct state, tray_open),
	SNAP_FIELD(struct state, locked), SNAP_FIELD(struct state, changed), SNAP_FIELD(struct state, eject_asked),
	SNAP_FIELD(struct state, no_medium), SNAP_END,
};
static const struct snap_table table = { "usb-storage", 1, fields };

static int msd_save(struct dev *d, struct snap_out *o)
{
	struct msd *s = of_dev(d);
	struct scsi_lun_state l = scsi_lun_get(&s->lun);
	struct state st = {
		.size = s->lun.disk.node->i.size, .tag = s->tag, .len = s->len, .moved = s->moved, .passed = s->passed, .sense = l.sense,
		.attention = l.attention, .cd = s->lun.cd, .phase = s->phase, .to_guest = s->to_guest, .executed = s->executed,
		.failed = s->failed, .refused = s->refused, .bounce = s->bounce != NULL, .tray_open = l.tray_open, .locked = l.locked,
		.changed = l.changed, .eject_asked = l.eject_asked, .no_medium = l.no_medium,
	};
	int ret = usb_emu_save(&s->emu, o);

	memcpy(st.cdb, s->cdb, sizeof(st.cdb));
	if (!ret)
		ret = snap_put(o, d->id, &table, &st);
	return ret || !s->bounce ? ret : snap_put_blob(o, d->id, s->bounce, s->len);
}

static int check_state(const struct msd *s, const struct state *st, struct err *e)
{
	const struct dev *d = &s->emu.usb.dev;

	if (st->cd != s->lun.cd || st->size != s->lun.disk.node->i.size)
		return err_set(e, -EINVAL, "saved state of %s has another disk", d->id);
	if (st->phase > PHASE_BROKEN || st->passed > st->len || st->moved > st->len || (st->bounce && (!st->len || st->len > BOUNCE_MAX)))
		return err_set(e, -EINVAL, "saved state of %s: phase %u with %u of %u bytes", d->id, st->phase, st->passed, st->len);
	/* Data that has passed, to no avail without the buffer. */
	if (st->phase == PHASE_DATA && (st->passed == st->len || (st->passed && !st->bounce && !st->executed)))
		return err_set(e, -EINVAL, "saved state of %s: %u of %u bytes are in no buffer", d->id, st->passed, st->len);
	return 0;
}

static int msd_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct msd *s = of_dev(d);
	struct state st = { 0 };
	struct scsi_lun_state l;
	uint32_t len = 0;
	int ret;

	begin_anew(s);
	ret = usb_emu_load(&s->emu, in, e);
	if (!ret)
		ret = snap_get(in, d->id, &table, &st, e);
	if (!ret)
		ret = check_state(s, &st, e);
	if (!ret && st.bounce) {
		s->bounce = calloc(1, st.len);
		ret = s->bounce ? snap_get_blob(in, d->id, s->bounce, st.len, &len, e) : err_set(e, -ENOMEM, "out of memory");
		if (!ret && len != st.len)
			ret = err_set(e, -EINVAL, "saved state of %s: %u of %u bytes are in its buffer", d->id, len, st.len);
	}
	if (ret) {
		no_bounce(s);
		return ret;
	}
	l = (struct scsi_lun_state){ st.tray_open, st.locked, st.changed, st.eject_asked, st.no_medium, st.attention, st.sense };
	ret = scsi_lun_set(&s->lun, &l);
	if (ret) {
		no_bounce(s);
		return err_set(e, ret, "saved state of %s has another medium in its drive", d->id);
	}
	s->tag = st.tag;
	s->len = st.len;
	s->moved = st.moved;
	s->passed = st.passed;
	memcpy(s->cdb, st.cdb, sizeof(s->cdb));
	s->phase = st.phase;
	s->to_guest = st.to_guest & 1;
	s->executed = st.executed & 1;
	s->failed = st.failed & 1;
	s->refused = st.refused & 1;
	return 0;
}

static void msd_free(struct dev *d)
{
	struct msd *s = of_dev(d);

	usb_unplug(&s->emu.usb);
	s->aborting = true;
	disk_fini(&s->lun.disk, 0, drop);
	no_bounce(s);
	dev_del(d);
	free(s);
}

static const struct usb_ops ops = {
	.dev = {
		.name = "usb-storage", .reset = msd_reset, .pause = msd_pause, .resume = msd_resume, .save = msd_save, .load = msd_load,
		.free = msd_free,
	},
	.reset = msd_usb_reset,
	.control = usb_emu_control,
	.data = msd_data,
	.cancel = msd_cancel,
};

/* BOT, 4.1.1 wants twelve digits; the same disk of the same machine has the same number. */
static void make_serial(const char *id, char out[13])
{
	uint64_t h = 14695981039346656037ull;

	for (; *id; id++)
		h = (h ^ (uint8_t)*id) * 1099511628211ull;
	snprintf(out, 13, "%012llX", (unsigned long long)(h >> 16));
}

int usb_storage_new(struct machine *m, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o, struct usb_device **out,
		    struct err *e)
{
	struct msd *s = calloc(1, sizeof(*s));
	char serial[13], name[32];
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	ret = scsi_lun_init(&s->lun, m, id, node, cd, o, e);
	if (ret) {
		free(s);
		return ret;
	}
	make_serial(id, serial);
	snprintf(name, sizeof(name), "usb.%.27s", id);
	usb_emu_init(&s->emu, m, &ops, &desc, USB_SUPER, name, cd ? "USB CD" : "USB Disk", *o->serial ? o->serial : serial);
	scsi_lun_reset(&s->lun);
	*out = &s->emu.usb;
	return 0;
}

struct disk *usb_storage_disk(struct usb_device *d)
{
	return &of_usb(d)->lun.disk;
}
