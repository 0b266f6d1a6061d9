// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that says anything to the host's side of SPICE's agent, and viewers that copy and paste meanwhile: bytes,
 * messages, long ones, the port opened and closed, reading or not, saved and damaged state.  What the guest gets are
 * whole messages in chunks as the protocol has them, and what viewers get is UTF-8 without NUL and CRLF.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/vdagent.h"
#include "base/bits.h"
#include "chardev/chardev.h"
#include "display/clipboard.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct rig {
	struct fuzz_input in;
	struct machine *m;
	struct clipboard *clipboard;
	struct vdagent *a;
	struct chardev *chr;
	struct clipboard_peer viewer;
	size_t room;			/* that the guest has for what comes */
	bool open;
	/* what it got, checked as it comes */
	bool trust;			/* it began with the port's opening, and nothing was damaged since */
	uint8_t head[28];		/* chunk's and message's */
	unsigned have, mhave;
	uint32_t chunk, body;		/* bytes to come */
};

static void require(int ok)
{
	if (!ok)
		abort();
}

static void got_message_byte(struct rig *r, uint8_t b)
{
	uint8_t *m = r->head + 8;
	unsigned type;

	if (r->mhave == 20) {
		require(r->body > 0);
		r->mhave = --r->body ? 20 : 0;
		return;
	}
	m[r->mhave++] = b;
	if (r->mhave < 20)
		return;
	type = ld_le32(m + 4);
	r->body = ld_le32(m + 16);
	require(ld_le32(m) == 1 && (type == 4 || (type >= 6 && type <= 9) || type == 14) && r->body <= CLIPBOARD_RAW_MAX + 8);
	if (!r->body)
		r->mhave = 0;
}

static void got_byte(struct rig *r, uint8_t b)
{
	if (r->chunk) {
		got_message_byte(r, b);
		r->chunk--;
		return;
	}
	r->head[r->have++] = b;
	if (r->have < 8)
		return;
	r->have = 0;
	r->chunk = ld_le32(r->head + 4);
	require(ld_le32(r->head) == 1 && r->chunk > 0 && r->chunk <= 2048);
}

static size_t can_read(void *opaque) { return ((struct rig *)opaque)->room; }
static void do_read(void *opaque, const uint8_t *p, size_t n)
{
	struct rig *r = opaque;

	require(n <= r->room);
	r->room -= n;
	for (size_t i = 0; r->trust && i < n; i++)
		got_byte(r, p[i]);
}

static void on_viewer(void *opaque) { }

static void turns(struct rig *r)
{
	for (unsigned i = 0; i < 3; i++)
		require(!loop_turn(r->m->loop, 0));
}

static void say(struct rig *r, const void *p, size_t n)
{
	size_t done = 0;

	for (unsigned i = 0; i < 100 && done < n; i++) {
		done += chardev_write(r->chr, (const uint8_t *)p + done, n - done);
		turns(r);
	}
}

static void say_message(struct rig *r, unsigned type, const uint8_t *body, uint32_t n)
{
	uint8_t h[28] = { 1 };

	st_le32(h + 4, 20 + n);
	st_le32(h + 8, 1);
	st_le32(h + 12, type);
	st_le32(h + 24, n);
	say(r, h, sizeof(h));
	say(r, body, n);
}

/* A text of some length, as the first bytes of the input say. */
static void say_text(struct rig *r)
{
	uint32_t some = (uint32_t)input_take(&r->in, 1), much = (uint32_t)input_take(&r->in, 1) << 4, n = some;
	uint8_t *p;

	if (much == 255u << 4)			/* seldom: it takes its time */
		n = (uint32_t)input_take(&r->in, 3) % (CLIPBOARD_RAW_MAX + 4096) + some;
	else if (some & 1)
		n += much;
	p = malloc(8 + n);
	memset(p, (int)much, 8 + n);
	memset(p, 0, 8);
	p[4] = 1;
	input_bytes(&r->in, p + 8, some);
	say_message(r, 4, p, 8 + n);
	free(p);
}

static void open_port(struct rig *r, bool open)
{
	r->open = r->trust = open;
	r->have = r->mhave = 0;
	r->chunk = r->body = 0;
	chardev_guest_open(r->chr, open);
}

static void put(struct rig *r)
{
	size_t n = input_take(&r->in, 1), more = n == 255 ? input_take(&r->in, 3) % (CLIPBOARD_RAW_MAX + 100) : n & 1 ? n << 4 : 0;
	char *text = malloc(n + more + 1);

	memset(text, (int)input_take(&r->in, 1), n + more);
	input_bytes(&r->in, text, n);
	clipboard_put(&r->viewer, text, n + more);
	free(text);
}

static void get(struct rig *r)
{
	char *text;
	size_t n;

	if (clipboard_get(&r->viewer, &text, &n))
		return;
	require(n <= CLIPBOARD_MAX && strlen(text) == n && !strstr(text, "\r\n"));
	free(text);
}

static void step(struct rig *r)
{
	uint8_t b[64];
	size_t n;

	switch (input_take(&r->in, 1) % 12) {
	case 0: n = input_bytes(&r->in, b, 1 + input_take(&r->in, 1) % sizeof(b)); say(r, b, n); break;
	case 1: case 2:
		memset(b, 0, sizeof(b));
		n = input_take(&r->in, 1) % 24;
		input_bytes(&r->in, b, n);
		say_message(r, (unsigned)input_take(&r->in, 1) % 16, b, (uint32_t)n);
		break;
	case 3: open_port(r, !r->open); break;
	case 4: clipboard_take(&r->viewer); break;
	case 5: put(r); break;
	case 6: clipboard_drop(&r->viewer); break;
	case 7: get(r); break;
	case 8: say_text(r); break;
	case 9:
		r->trust = false;
		input_save_load(&r->in, r->m);
		break;
	case 10: r->room = input_take(&r->in, 2); break;
	default:
		r->room = 8u << 20;
		chardev_kick(r->chr);
		break;
	}
	turns(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t caps[8] = { 0, 0, 0, 0, 0x60, size && data[0] & 1 ? 6 : 4, size && data[0] & 2 ? 3 : 0, 0 };
	struct rig r = { .in = { data, size }, .room = 8u << 20 };
	const struct chardev_front front = { .can_read = can_read, .read = do_read, .opaque = &r };
	struct err e;

	input_take(&r.in, 1);
	if (machine_new(&r.m, true) || clipboard_new(&r.clipboard) || vdagent_new(r.m, "vdagent0", r.clipboard, &r.a, &e))
		abort();
	clipboard_join(r.clipboard, &r.viewer, r.m->loop, on_viewer, &r);
	r.chr = vdagent_chardev(r.a);
	chardev_attach(r.chr, &front);
	open_port(&r, true);
	say_message(&r, 6, caps, sizeof(caps));
	for (unsigned i = 0; r.in.left && i < 200; i++)
		step(&r);
	machine_free_devs(r.m);
	vdagent_free(r.a);
	clipboard_leave(&r.viewer);
	clipboard_free(r.clipboard);
	machine_free(r.m);
	return 0;
}
