/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VNC server on a screen without a machine, for test_vnc.py.
 *
 * usage: vnc-serve KEY=VALUE...   port websocket unix password later view cert key anon read-only wishes tablet clipboard
 *
 * Lines on standard input: "draw PATTERN WIDTH HEIGHT", "dot X Y COLOUR", "cursor WIDTH HEIGHT HOTX HOTY SHOWN"; each is answered
 * with "ok".  What viewers type and point at is printed.  With clipboard=1 the guest's part in one: "take", "put HEX", "fill N"
 * (a text of N letters), "drop", and "paste", which prints "text HEX", "wait", "none" or "asked", if a viewer waits for the guest's.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "display/clipboard.h"
#include "display/display.h"
#include "display/input.h"
#include "display/vnc/vnc.h"

static pthread_mutex_t machine = PTHREAD_MUTEX_INITIALIZER;
static unsigned pattern, width = 320, height = 200;
static unsigned dot_x, dot_y, dot;
static bool wishes;
static struct display_cursor cursor;

/* The same formulas as in test_vnc.py. */
static uint32_t pixel(unsigned x, unsigned y)
{
	switch (pattern) {
	case 0: return 0x336699;
	case 1: return (x / 8 + y / 16) % 2 ? 0xffffff : 0;
	case 2: return ((x / 5 * 7 + y / 3) % 11) * 0x112233 & 0xffffff;
	case 3: return (x * 3 + y * 5) % 200 * 0x010203 & 0xffffff;
	case 4: return (x * 2654435761u ^ y * 40503u * 65537u) & 0xffffff;
	/* Bands of two colours, the same two, one that is one colour; from x = 90 on and below of three, four and five. */
	case 6: return (x + y) % 3 ? (y / 16 % 4 == 2 ? 0xffff40 : y / 48 % 3 == 1 ? 0x404040 : 0xc0c0c0) :
		       x >= 90 && y >= 80 ? (y / 16 * 0x10203 + y % 2) : 0x404040;
	default: return (x & 255) << 16 | (y & 255) << 8 | ((x + y) & 255);
	}
}

/* Two pixels of three are there, half of them half. */
static void draw_cursor(struct display *d)
{
	static uint32_t shape[64 * 64];

	for (unsigned i = 0; i < cursor.width * cursor.height; i++)
		shape[i] = (i % 3 ? i % 2 ? 0xff000000u : 0x80000000u : 0) | (i * 0x010305 & 0xffffff);
	cursor.pixels = shape;
	display_set_cursor(d, &cursor);
	cursor.width = 0;
}

static void refresh(void *opaque, struct display *d)
{
	static uint32_t row[DISPLAY_MAX_WIDTH];

	display_resize(d, width, height);
	for (unsigned y = 0; y < height; y++) {
		for (unsigned x = 0; x < width; x++)
			row[x] = pixel(x, y) | 0x5a000000;	/* what the upper byte holds means nothing */
		if (dot && y == dot_y && dot_x < width)
			row[dot_x] = dot;
		display_put(d, 0, y, width, row);
	}
	if (cursor.width)
		draw_cursor(d);
}

static void watched(void *opaque, bool on) { }

static void wish(void *opaque, unsigned w, unsigned h)
{
	width = w;
	height = h;
}

static bool on_key(void *opaque, unsigned code, bool down)
{
	printf("key %u %d\n", code, down);
	return true;
}

static void on_rel(void *opaque, int dx, int dy, int wheel, unsigned buttons)
{
	printf("rel %d %d %d %u\n", dx, dy, wheel, buttons);
}

static void on_abs(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	printf("abs %u %u %d %u\n", x, y, wheel, buttons);
}

static const char *arg(char **argv, const char *key)
{
	for (size_t n = strlen(key); *argv; argv++)
		if (!strncmp(*argv, key, n) && (*argv)[n] == '=')
			return *argv + n + 1;
	return NULL;
}

static unsigned number(char **argv, const char *key)
{
	const char *v = arg(argv, key);

	return v ? (unsigned)atoi(v) : 0;
}

/* ---- the guest's clipboard ---- */

static struct clipboard *clipboard;
static struct clipboard_peer guest;

static void put_hex(const char *hex)
{
	size_t n = strlen(hex) / 2;
	char *text = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		sscanf(hex + 2 * i, "%2hhx", (unsigned char *)&text[i]);
	clipboard_put(&guest, text, n);
	free(text);
}

static void fill(size_t n)
{
	char *text = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		text[i] = (char)('a' + rand() % 26);
	clipboard_put(&guest, text, n);
	free(text);
}

static void paste(void)
{
	struct clipboard_state s;
	char *text;
	size_t len;
	int r;

	clipboard_look(&guest, &s);
	if (s.mine) {
		puts(s.asked ? "asked" : "none");
		return;
	}
	r = clipboard_get(&guest, &text, &len);
	if (r) {
		puts(r == -EAGAIN ? "wait" : "none");
		return;
	}
	fputs("text ", stdout);
	for (size_t i = 0; i < len; i++)
		printf("%02x", (unsigned char)text[i]);
	putchar('\n');
	free(text);
}

static void on_clipboard(void *opaque) { }

static void clip_command(char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (!strcmp(line, "take"))
		clipboard_take(&guest);
	else if (!strcmp(line, "drop"))
		clipboard_drop(&guest);
	else if (!strncmp(line, "put ", 4))
		put_hex(line + 4);
	else if (!strncmp(line, "fill ", 5))
		fill((size_t)atoi(line + 5));
	else if (!strcmp(line, "paste"))
		paste();
}

static void serve(void)
{
	char line[1 << 17];
	unsigned c[5];

	while (fgets(line, sizeof(line), stdin)) {
		pthread_mutex_lock(&machine);
		if (sscanf(line, "cursor %u %u %u %u %u", &c[0], &c[1], &c[2], &c[3], &c[4]) == 5)
			cursor = (struct display_cursor){ .width = c[0], .height = c[1], .hot_x = c[2], .hot_y = c[3], .visible = c[4] };
		if (sscanf(line, "draw %u %u %u", &pattern, &width, &height) == 3)
			dot = 0;
		else
			sscanf(line, "dot %u %u %x", &dot_x, &dot_y, &dot);
		pthread_mutex_unlock(&machine);
		if (clipboard)
			clip_command(line);
		puts("ok");
	}
}

int main(int argc, char **argv)
{
	struct vnc_config cfg = {
		.port = number(argv, "port"), .websocket = number(argv, "websocket"), .unix_path = arg(argv, "unix"),
		.password = arg(argv, "password"), .password_later = number(argv, "later"), .view_password = arg(argv, "view"), .tls_cert = arg(argv, "cert"),
		.tls_key = arg(argv, "key"), .tls_anonymous = number(argv, "anon"), .read_only = number(argv, "read-only"),
	};
	struct input_device dev = { .key = on_key, .rel = on_rel };
	static struct display_ops ops = { .refresh = refresh, .watched = watched };
	struct display *d;
	struct input *in;
	struct loop *loop;
	struct vnc *v;
	struct err e;

	setvbuf(stdout, NULL, _IOLBF, 0);
	wishes = number(argv, "wishes");
	if (wishes)
		ops.wish = wish;
	if (number(argv, "tablet"))
		dev.abs = on_abs;
	if (display_new(&machine, &d) || input_new(&machine, &in))
		return 1;
	pthread_mutex_lock(&machine);
	display_attach(d, &ops, NULL);
	input_add(in, &dev);
	pthread_mutex_unlock(&machine);
	if (number(argv, "clipboard")) {
		if (clipboard_new(&clipboard) || loop_new(&loop))
			return 1;
		clipboard_join(clipboard, &guest, loop, on_clipboard, NULL);
		cfg.clipboard = clipboard;
	}
	if (vnc_new(d, in, &cfg, &v, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	puts("ready");
	serve();
	vnc_free(v);
	if (clipboard) {
		clipboard_leave(&guest);
		clipboard_free(clipboard);
		loop_free(loop);
	}
	pthread_mutex_lock(&machine);
	display_attach(d, NULL, NULL);
	pthread_mutex_unlock(&machine);
	display_free(d);
	input_free(in);
	return 0;
}
