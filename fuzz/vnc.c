// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A viewer that says anything to the VNC server, and a guest that changes its
 * screen meanwhile: HTTP, frames, handshakes, messages, encoders, the clipboard.  The first byte
 * says what the server asks for and what is done for the viewer (a negotiation,
 * frames around what it says); then pieces of its stream and changes of the screen
 * take turns.  When it is gone nothing may be held down, and nothing left of it.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "display/vnc/vnc_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_WIDTH 2300u			/* Tight divides what is wider than 2048 */
#define MAX_HEIGHT 48u
/* One update, uncompressed and with whatever belongs to it, and the answers that may wait. */
#define MAX_WAITING (MAX_WIDTH * MAX_HEIGHT * 5 + VNC_OUT_BUSY + VNC_OUT_ANSWERS + (512u << 10) + CLIPBOARD_RAW_MAX)
enum { WS = 1, PASSWORD = 2, TLS = 4, NEGOTIATED = 8, DEAF = 16, LOOK_ONLY = 32, TABLET = 64, FRAMES = 128 };

static pthread_mutex_t machine = PTHREAD_MUTEX_INITIALIZER;
static struct {
	unsigned width, height, pattern;
	bool cursor;
	uint8_t hot;
} screen;
static struct {
	uint64_t down[INPUT_MAX_KEY / 64];
	unsigned buttons;
} held;

static void require(int ok)
{
	if (!ok)
		abort();
}

/* ---- the guest's side ---- */

static uint32_t pixel(unsigned x, unsigned y)
{
	switch (screen.pattern % 4) {
	case 0: return screen.pattern * 0x10305;
	case 1: return (x / 3 + y / 7) % 2 ? 0xffffff : screen.pattern;
	case 2: return (x / 5 * 7 + y / 3) % (screen.pattern | 1) * 0x112233;
	default: return (x * 2654435761u ^ y * 40503u * 65537u) * screen.pattern;
	}
}

static void refresh(void *opaque, struct display *d)
{
	static uint32_t row[MAX_WIDTH], shape[64 * 64];
	const struct display_cursor cursor = { 1 + screen.hot % 64, 1 + screen.hot / 4, screen.hot, screen.hot, 1, 1, true, shape };

	display_resize(d, screen.width, screen.height);
	for (unsigned y = 0; y < screen.height; y++) {
		for (unsigned x = 0; x < screen.width; x++)
			row[x] = pixel(x, y);
		display_put(d, 0, y, screen.width, row);
	}
	memcpy(shape, row, sizeof(row) < sizeof(shape) ? sizeof(row) : sizeof(shape));
	if (screen.cursor)
		display_set_cursor(d, &cursor);
	display_move_cursor(d, screen.hot, 0, screen.hot & 1);
}

static void watched(void *opaque, bool on) { }

static void wish(void *opaque, unsigned w, unsigned h)
{
	screen.width = w % (MAX_WIDTH + 1);
	screen.height = h % (MAX_HEIGHT + 1);
}

static const struct display_ops ops = { .refresh = refresh, .watched = watched, .wish = wish };

/* ---- its clipboard ---- */

static struct clipboard_peer guest;
static void on_clipboard(void *opaque) { }

static void copy_or_paste(unsigned what, uint8_t with)
{
	size_t n = what & 1 ? with : (size_t)with << 12;
	char *text;

	switch (what) {
	case 1: clipboard_take(&guest); break;
	case 2: case 3:
		text = malloc(n + 1);
		memset(text, with, n);
		clipboard_take(&guest);
		clipboard_put(&guest, text, n);
		free(text);
		break;
	case 4: clipboard_drop(&guest); break;
	case 5:
		if (!clipboard_get(&guest, &text, &n)) {
			require(n <= CLIPBOARD_MAX && strlen(text) == n);
			free(text);
		}
		break;
	default: break;
	}
}

static bool on_key(void *opaque, unsigned code, bool down)
{
	require(code && code < INPUT_MAX_KEY);
	held.down[code / 64] = (held.down[code / 64] & ~BIT64(code % 64)) | (uint64_t)down << code % 64;
	return true;
}

static void on_rel(void *opaque, int dx, int dy, int wheel, unsigned buttons)
{
	require(wheel >= -1 && wheel <= 1 && abs(dx) <= 65535 && abs(dy) <= 65535);
	held.buttons = buttons;
}

static void on_abs(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	require(wheel >= -1 && wheel <= 1 && x <= INPUT_ABS_MAX && y <= INPUT_ABS_MAX);
	held.buttons = buttons;
}

/* ---- the viewer's ---- */

struct viewer {
	struct vnc *v;
	int fd;
	uint8_t how;
};

static void turn(struct viewer *w)
{
	static uint8_t waste[65536];

	require(!loop_turn(w->v->loop, 0));
	w->v->tick.cb(w->v->tick.opaque);
	list_for_each(n, &w->v->clients)
		require(vnc_conn_pending(&list_entry(n, struct vnc_client, node)->c) <= MAX_WAITING);
	while (!(w->how & DEAF) && recv(w->fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
		;
}

/* At most 125 bytes. */
static void say(struct viewer *w, const void *p, size_t n)
{
	uint8_t frame[6 + 125] = { 0x82, (uint8_t)(0x80 | n), 1, 2, 3, 4 };

	require(n <= 125);
	if (w->how & WS && w->how & FRAMES) {
		for (size_t i = 0; i < n; i++)
			frame[6 + i] = ((const uint8_t *)p)[i] ^ frame[2 + (i & 3)];
		send(w->fd, frame, 6 + n, MSG_NOSIGNAL | MSG_DONTWAIT);
	} else {
		send(w->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	turn(w);
}

static void negotiate(struct viewer *w)
{
	static const char http[] = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
				   "Sec-WebSocket-Protocol: binary\r\n\r\n";

	if (w->how & WS && w->how & FRAMES) {
		send(w->fd, http, sizeof(http) - 1, MSG_NOSIGNAL);
		turn(w);
	}
	if (w->how & NEGOTIATED) {
		say(w, "RFB 003.008\n", 12);
		say(w, "\1\1", 2);
	}
}

static void session(struct viewer *w, const uint8_t *p, size_t left)
{
	while (left > 1) {
		size_t n = *p & 0x7f;
		bool say_it = !(*p & 0x80);

		p++;
		left--;
		if (say_it) {
			n = MIN(MIN(n, left), 125u);
			say(w, p, n);
		} else if (left >= 4) {
			n = 4;
			pthread_mutex_lock(&machine);
			screen.width = (p[0] << 4 | p[1] >> 4) % (MAX_WIDTH + 1);
			screen.height = p[1] % (MAX_HEIGHT + 1);
			screen.pattern = p[2];
			screen.cursor = p[3] & 1;
			screen.hot = p[3];
			pthread_mutex_unlock(&machine);
			copy_or_paste(p[3] >> 5, p[2]);
			turn(w);
		} else {
			n = left;
		}
		p += n;
		left -= n;
	}
}

static void leave(struct viewer *w)
{
	close(w->fd);
	for (unsigned i = 0; w->v->n_clients; i++) {
		require(i < 1000);
		require(!loop_turn(w->v->loop, 0));
	}
	for (unsigned i = 0; i < ARRAY_LEN(held.down); i++)
		require(!held.down[i]);
	require(!held.buttons);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input_device dev = { .key = on_key, .rel = on_rel };
	struct viewer w = { .how = size ? data[0] : 0 };
	struct vnc_config cfg = {
		.password = w.how & PASSWORD && !(w.how & NEGOTIATED) ? "secret" : NULL, .read_only = w.how & LOOK_ONLY,
		.tls_anonymous = w.how & TLS && !(w.how & NEGOTIATED),
	};
	struct display *d = NULL;
	struct input *in = NULL;
	struct loop *guest_loop = NULL;
	struct err e;
	int fds[2];

	if (size < 2)
		return 0;
	dev.abs = w.how & TABLET ? on_abs : NULL;
	screen.width = 200;
	screen.height = 40;
	screen.pattern = screen.cursor = 0;
	require(!display_new(&machine, &d) && !input_new(&machine, &in));
	pthread_mutex_lock(&machine);
	display_attach(d, &ops, NULL);
	input_add(in, &dev);
	pthread_mutex_unlock(&machine);
	require(!clipboard_new(&cfg.clipboard) && !loop_new(&guest_loop));
	clipboard_join(cfg.clipboard, &guest, guest_loop, on_clipboard, NULL);
	require(!vnc_make(d, in, &cfg, &w.v, &e));
	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
	w.fd = fds[0];
	vnc_client_new(w.v, fds[1], w.how & WS);
	negotiate(&w);
	session(&w, data + 1, size - 1);
	leave(&w);
	vnc_free(w.v);
	clipboard_leave(&guest);
	clipboard_free(cfg.clipboard);
	loop_free(guest_loop);
	pthread_mutex_lock(&machine);
	display_attach(d, NULL, NULL);
	pthread_mutex_unlock(&machine);
	display_free(d);
	input_free(in);
	return 0;
}
