/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The surface: what is put is compared, each viewer learns of its own changes, nobody draws for nobody. */
#include "../unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bits.h"
#include "display/display.h"
#include "display/png.h"

static pthread_mutex_t machine = PTHREAD_MUTEX_INITIALIZER;
static struct display *d;
static struct display_viewer a, b;
static unsigned refreshes, wished_w, wished_h;
static int watched;			/* calls: +1 on, -1 off */
static void (*draw)(struct display *d);

static void refresh(void *opaque, struct display *disp)
{
	assert_ptr_equal(opaque, &refreshes);
	refreshes++;
	if (draw)
		draw(disp);
}
static void on_watch(void *opaque, bool on) { watched += on ? 1 : -1; }
static void wish(void *opaque, unsigned w, unsigned h)
{
	wished_w = w;
	wished_h = h;
}
static const struct display_ops ops = { .refresh = refresh, .watched = on_watch, .wish = wish };

static int setup(void **state)
{
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	refreshes = 0;
	watched = 0;
	draw = NULL;
	assert_int_equal(display_new(&machine, &d), 0);
	pthread_mutex_lock(&machine);
	display_attach(d, &ops, &refreshes);
	pthread_mutex_unlock(&machine);
	return 0;
}

static int teardown(void **state)
{
	display_free(d);
	return 0;
}

static const struct display_rect all = { 0, 0, 1 << 20, 1 << 20 };

static bool take(struct display_viewer *v, struct display_rect *r)
{
	bool ok;

	display_lock(d);
	assert_int_equal(display_changed(d, v), display_take(d, v, &(struct display_rect){ 0, 0, 0, 0 }, 0, r) ||
						display_changed(d, v));
	ok = display_take(d, v, &all, 0, r);
	display_unlock(d);
	return ok;
}

static void expect(struct display_viewer *v, unsigned x, unsigned y, unsigned w, unsigned h)
{
	struct display_rect r;

	assert_true(take(v, &r));
	assert_int_equal(r.x, x);
	assert_int_equal(r.y, y);
	assert_int_equal(r.w, w);
	assert_int_equal(r.h, h);
}

static void draw_size(struct display *disp) { display_resize(disp, 200, 50); }

static void draw_dot(struct display *disp)
{
	uint32_t p = 0x123456;

	draw_size(disp);
	display_put(disp, 130, 20, 1, &p);
}

static void draw_line(struct display *disp)
{
	uint32_t p[300];

	for (unsigned i = 0; i < ARRAY_LEN(p); i++)
		p[i] = i;
	display_put(disp, 0, 49, 300, p);	/* longer than the row */
	display_put(disp, 0, 50, 300, p);	/* below */
	display_put(disp, 200, 0, 1, p);	/* to the right */
}

static void test_changes(void **state)
{
	struct display_rect r;

	draw = draw_size;
	display_watch(d, &a);
	assert_int_equal(watched, 1);
	assert_true(a.resized);
	assert_false(take(&a, &r));		/* no size yet */
	display_refresh(d);
	expect(&a, 0, 0, 200, 50);
	assert_false(take(&a, &r));
	draw = draw_dot;
	display_refresh(d);
	expect(&a, 128, 16, 64, 16);
	display_refresh(d);			/* the same again is no change */
	assert_false(take(&a, &r));
	display_watch(d, &b);
	assert_int_equal(watched, 1);
	expect(&b, 0, 0, 200, 50);
	draw = draw_line;
	display_refresh(d);
	expect(&a, 0, 48, 200, 2);
	expect(&b, 0, 48, 200, 2);
	display_unwatch(d, &a);
	display_unwatch(d, &b);
	assert_int_equal(watched, 0);
}

static void test_pieces(void **state)
{
	struct display_rect r, in = { 70, 20, 10, 1 };

	draw = draw_size;
	display_watch(d, &a);
	display_refresh(d);
	display_lock(d);
	assert_true(display_take(d, &a, &in, 0, &r));	/* the tile around it */
	assert_true(r.x == 64 && r.y == 16 && r.w == 64 && r.h == 16);
	assert_false(display_take(d, &a, &in, 0, &r));
	assert_true(display_take(d, &a, &all, 2 * 64 * 16, &r));
	assert_int_equal(r.w * r.h, 128 * 16);
	for (unsigned area = 64 * 16 + r.w * r.h;; area += r.w * r.h) {
		if (!display_take(d, &a, &all, 64 * 16, &r)) {
			assert_int_equal(area, 200 * 50);
			break;
		}
		assert_true(r.x + r.w <= 200 && r.y + r.h <= 50);
	}
	display_mark(d, &a, &in);
	assert_true(display_take(d, &a, &all, 0, &r));
	assert_true(r.x == 64 && r.y == 16);
	display_mark(d, &a, &(struct display_rect){ 500, 0, 1, 1 });
	assert_false(display_changed(d, &a));
	display_unlock(d);
	display_unwatch(d, &a);
}

static unsigned want_w, want_h;
static void draw_want(struct display *disp) { display_resize(disp, want_w, want_h); }

static void test_sizes(void **state)
{
	static const struct { unsigned w, h; bool ok; } t[] = {
		{ 1, 1, true }, { 640, 480, true }, { 16384, 1, true }, { 1, 16384, true }, { 8192, 8192, true },
		{ 16385, 1, false }, { 1, 16385, false }, { 16384, 16384, false }, { 0, 5, false }, { 5, 0, false },
		{ UINT32_MAX, UINT32_MAX, false },
	};

	draw = draw_want;
	display_watch(d, &a);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		want_w = t[i].w;
		want_h = t[i].h;
		display_refresh(d);
		display_lock(d);
		assert_int_equal(display_surface(d)->width, t[i].ok ? t[i].w : 0);
		assert_int_equal(display_surface(d)->height, t[i].ok ? t[i].h : 0);
		assert_int_equal(display_surface(d)->pixels != NULL, t[i].ok);
		display_unlock(d);
	}
	assert_true(display_wish(d, 800, 600));
	assert_true(wished_w == 800 && wished_h == 600);
	assert_false(display_wish(d, 0, 600));
	assert_false(display_wish(d, 99999, 600));
	display_unwatch(d, &a);
}

static void test_cursor(void **state)
{
	uint32_t px[4] = { 0xff000000, 0x80ffffff, 0, 1 };
	struct display_cursor c = { .width = 2, .height = 2, .hot_x = 9, .hot_y = 1, .visible = true, .pixels = px };

	display_watch(d, &a);
	a.new_cursor = a.moved_cursor = false;
	display_lock(d);
	display_set_cursor(d, &c);
	px[0] = 7;				/* a copy was taken */
	assert_true(a.new_cursor && !a.moved_cursor);
	assert_int_equal(display_cursor(d)->pixels[0], 0xff000000);
	assert_int_equal(display_cursor(d)->hot_x, 2);
	a.new_cursor = false;
	display_move_cursor(d, 5, 6, true);
	assert_true(a.moved_cursor && !a.new_cursor);
	display_move_cursor(d, 5, 6, false);
	assert_true(a.new_cursor);
	c.width = DISPLAY_MAX_CURSOR + 1;
	display_set_cursor(d, &c);
	assert_int_equal(display_cursor(d)->width, 0);
	assert_null(display_cursor(d)->pixels);
	display_unlock(d);
	display_unwatch(d, &a);
}

/* ---- PNG, read back without libpng ---- */

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

/* The rows of the only kind of picture that is made, filters undone. */
static void decode(const uint8_t *png, size_t len, unsigned w, unsigned h, uint8_t *rgb)
{
	unsigned long raw_len = h * (w * 3ul + 1);
	uint8_t *z = malloc(len), *raw = malloc(raw_len);
	size_t n = 0, at = 8;

	assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
	while (at < len) {
		uint32_t l = be32(png + at);

		assert_int_equal(crc32(0, png + at + 4, l + 4), be32(png + at + 8 + l));
		if (!memcmp(png + at + 4, "IHDR", 4))
			assert_true(be32(png + at + 8) == w && be32(png + at + 12) == h && png[at + 16] == 8 && png[at + 17] == 2);
		if (!memcmp(png + at + 4, "IDAT", 4)) {
			memcpy(z + n, png + at + 8, l);
			n += l;
		}
		at += l + 12;
	}
	assert_int_equal(uncompress(raw, &raw_len, z, n), Z_OK);
	assert_int_equal(raw_len, h * (w * 3ul + 1));
	for (unsigned y = 0; y < h; y++) {
		const uint8_t *in = raw + y * (w * 3 + 1);
		uint8_t *out = rgb + y * w * 3;

		for (unsigned i = 0; i < w * 3; i++) {
			int left = i >= 3 ? out[i - 3] : 0, up = y ? out[(int)i - (int)w * 3] : 0;
			int corner = i >= 3 && y ? out[(int)i - 3 - (int)w * 3] : 0, p = left + up - corner;
			int pl = abs(p - left), pu = abs(p - up), pc = abs(p - corner);
			int paeth = pl <= pu && pl <= pc ? left : pu <= pc ? up : corner;
			const int pred[5] = { 0, left, up, (left + up) / 2, paeth };

			assert_true(in[0] < 5);
			out[i] = (uint8_t)(in[1 + i] + pred[in[0]]);
		}
	}
	free(z);
	free(raw);
}

static void test_png(void **state)
{
	enum { W = 37, H = 11, STRIDE = 40 };
	uint32_t px[H * STRIDE];
	uint8_t *png, rgb[W * H * 3];
	size_t len;

	if (!png_available())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(px); i++)
		px[i] = i * 2654435761u;
	for (int level = 0; level <= 9; level += 3) {
		assert_int_equal(png_encode(px, W, H, STRIDE, level, &png, &len), 0);
		decode(png, len, W, H, rgb);
		for (unsigned y = 0; y < H; y++)
			for (unsigned x = 0; x < W; x++) {
				const uint8_t *p = rgb + (y * W + x) * 3;

				assert_int_equal(px[y * STRIDE + x] & 0xffffff, p[0] << 16 | p[1] << 8 | p[2]);
			}
		free(png);
	}
}

static void test_screenshot(void **state)
{
	char path[] = "/tmp/lodge-test-XXXXXX";
	uint8_t file[65536], rgb[200 * 50 * 3];
	struct err e = { "" };
	struct surface shot;
	size_t len;
	FILE *f;

	if (!png_available())
		skip();
	close(mkstemp(path));
	assert_int_equal(display_copy(d, &shot), -ENODATA);
	draw = draw_dot;
	assert_int_equal(display_copy(d, &shot), 0);
	assert_int_equal(watched, 0);
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, NULL, &e), 0);
	f = fopen(path, "r");
	len = fread(file, 1, sizeof(file), f);
	fclose(f);
	assert_int_equal(len, 14 + 200 * 50 * 3);
	assert_memory_equal(file, "P6\n200 50\n255\n", 14);
	assert_memory_equal(file + 14 + (20 * 200 + 130) * 3, "\x12\x34\x56\0\0\0", 6);
	assert_int_equal(picture_write(&shot, PICTURE_PNG, path, NULL, &e), 0);
	f = fopen(path, "r");
	len = fread(file, 1, sizeof(file), f);
	fclose(f);
	decode(file, len, 200, 50, rgb);
	assert_memory_equal(rgb + (20 * 200 + 130) * 3, "\x12\x34\x56", 3);
	assert_memory_equal(rgb + (20 * 200 + 131) * 3, "\0\0\0", 3);
	unlink(path);
	assert_true(picture_write(&shot, PICTURE_PNG, "/nonexistent/x.png", NULL, &e) < 0);
	assert_non_null(strstr(e.msg, "/nonexistent/x.png"));
	free(shot.pixels);
}

/* Reads what is written to the pipe, once the writer waits for it. */
static void *late_reader(void *opaque)
{
	const char *path = opaque;
	size_t *total = malloc(sizeof(*total));
	uint8_t piece[4096];
	ssize_t n;
	int fd;

	usleep(50000);
	fd = open(path, O_RDONLY);
	for (*total = 0; (n = read(fd, piece, sizeof(piece))) > 0; *total += (size_t)n)
		;
	close(fd);
	return total;
}

/* Nobody at the other end of a pipe keeps the writer longer than it says. */
static void test_screenshot_pipe(void **state)
{
	struct surface shot = { 300, 200, calloc(300 * 200, 4) };	/* more than a pipe holds */
	_Atomic bool stop = false;
	const struct picture_patience a_little = { 30000000, NULL }, much = { 60000000000, NULL }, ended = { 60000000000, &stop };
	char dir[] = "/tmp/lodge-test-XXXXXX", path[64];
	struct err e = { "" };
	pthread_t reader;
	void *total;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, NULL, &e), -ENXIO);
	assert_non_null(strstr(e.msg, "nobody reads"));
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, &a_little, &e), -ENXIO);
	fd = open(path, O_RDONLY | O_NONBLOCK);		/* and never reads */
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, NULL, &e), -EAGAIN);
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, &a_little, &e), -EAGAIN);
	atomic_store(&stop, true);
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, &ended, &e), -EAGAIN);
	close(fd);
	assert_int_equal(pthread_create(&reader, NULL, late_reader, path), 0);
	assert_int_equal(picture_write(&shot, PICTURE_PPM, path, &much, &e), 0);
	pthread_join(reader, &total);
	assert_int_equal(*(size_t *)total, 15 + 300 * 200 * 3);
	free(total);
	free(shot.pixels);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cursor, setup, teardown),
		cmocka_unit_test(test_png),
		cmocka_unit_test_setup_teardown(test_screenshot, setup, teardown),
		cmocka_unit_test(test_screenshot_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
