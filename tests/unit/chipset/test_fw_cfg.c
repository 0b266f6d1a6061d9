/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg as firmware reads it: by port and by DMA, directory, contents made on
 * selection, and its state in the middle of a file.
 */
#include "chip.h"

#include "base/bits.h"
#include "chipset/fw_cfg.h"

#define PORT 0x510

struct fix {
	struct machine *m;
	struct fw_cfg *f;
	unsigned asked;
};

static void fresh(void *o)
{
	struct fix *x = o;
	char text[16];

	snprintf(text, sizeof(text), "version %u", ++x->asked);
	assert_int_equal(fw_cfg_replace(x->f, "etc/made", text, (uint32_t)strlen(text)), 0);
}

static struct fix *fix_new(void)
{
	struct fix *x = calloc(1, sizeof(*x));
	struct err e;

	x->m = machine_make();
	assert_int_equal(mem_create_ram(x->m->mem, 65536, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(x->m->mem, "ram", 0, 0, 65536, &e), 0);
	assert_int_equal(fw_cfg_new(x->m, PORT, &x->f), 0);
	assert_int_equal(fw_cfg_add_file(x->f, "opt/plain", "hello", 5), 0);
	assert_int_equal(fw_cfg_add_file(x->f, "etc/made", "0123456789abcdef", 16), 0);
	assert_int_equal(fw_cfg_on_select(x->f, "etc/made", fresh, x), 0);
	return x;
}

static void fix_free(struct fix *x)
{
	machine_free(x->m);
	free(x);
}

static void choose(struct fix *x, uint16_t key)
{
	bus_access(x->m->pio, PORT, &key, 2, true);
}

static uint8_t next(struct fix *x)
{
	uint8_t b = 0;

	bus_access(x->m->pio, PORT + 1, &b, 1, false);
	return b;
}

static uint32_t dma(struct fix *x, uint32_t control, uint32_t len, uint64_t addr)
{
	uint8_t d[16];
	uint32_t hi = 0, lo = __builtin_bswap32(0x100), status;

	st_le32(d, __builtin_bswap32(control));
	st_le32(d + 4, __builtin_bswap32(len));
	st_le64(d + 8, __builtin_bswap64(addr));
	assert_int_equal(mem_write(x->m->mem, 0x100, d, 16), 0);
	bus_access(x->m->pio, PORT + 4, &hi, 4, true);
	bus_access(x->m->pio, PORT + 8, &lo, 4, true);
	assert_int_equal(mem_read(x->m->mem, 0x100, &status, 4), 0);
	return __builtin_bswap32(status);
}

static void directory(void **state)
{
	struct fix *x = fix_new();
	uint8_t dir[4 + 2 * 64];

	choose(x, FW_CFG_SIGNATURE);
	assert_int_equal(next(x), 'Q');
	assert_int_equal(dma(x, FW_CFG_FILE_DIR << 16 | 8 | 2, sizeof(dir), 0x1000), 0);
	assert_int_equal(mem_read(x->m->mem, 0x1000, dir, sizeof(dir)), 0);
	assert_int_equal(__builtin_bswap32(ld_le32(dir)), 2);
	assert_int_equal(__builtin_bswap32(ld_le32(dir + 4)), 5);
	assert_int_equal(__builtin_bswap16(ld_le16(dir + 8)), FW_CFG_FILE_FIRST);
	assert_string_equal((char *)dir + 12, "opt/plain");
	assert_int_equal(__builtin_bswap32(ld_le32(dir + 68)), 16);
	assert_string_equal((char *)dir + 76, "etc/made");
	assert_int_equal(fw_cfg_add_file(x->f, "opt/plain", "", 0), -EEXIST);
	assert_int_equal(fw_cfg_add_file(x->f, "", "", 0), -EINVAL);
	assert_int_equal(fw_cfg_on_select(x->f, "opt/none", fresh, x), -ENOENT);
	assert_int_equal(fw_cfg_replace(x->f, "opt/plain", "longer than it was", 18), -E2BIG);
	fix_free(x);
}

static void reading(void **state)
{
	struct fix *x = fix_new();
	char buf[12];

	choose(x, FW_CFG_FILE_FIRST);
	for (const char *p = "hello"; *p; p++)
		assert_int_equal(next(x), *p);
	assert_int_equal(next(x), 0);			/* past the end */
	/* Skip, read, and zeroes after the end. */
	assert_int_equal(dma(x, FW_CFG_FILE_FIRST << 16 | 8 | 4, 3, 0), 0);
	assert_int_equal(mem_write(x->m->mem, 0x2000, "xxxxxxxxxxxx", 12), 0);
	assert_int_equal(dma(x, 2, 6, 0x2000), 0);
	assert_int_equal(mem_read(x->m->mem, 0x2000, buf, 12), 0);
	assert_memory_equal(buf, "lo\0\0\0\0xxxxxx", 12);
	/* Where there is no RAM, and writing: the error bit. */
	assert_int_equal(dma(x, FW_CFG_FILE_FIRST << 16 | 8 | 2, 5, 65534), 1);
	assert_int_equal(dma(x, 16, 5, 0x2000), 1);
	fix_free(x);
}

static void made_when_asked_for(void **state)
{
	struct fix *x = fix_new();
	char buf[16];

	choose(x, FW_CFG_FILE_FIRST + 1);
	assert_int_equal(x->asked, 1);
	for (const char *p = "version 1"; *p; p++)
		assert_int_equal(next(x), *p);
	for (int i = 0; i < 8; i++)		/* what the first contents had more is gone */
		assert_int_equal(next(x), 0);
	assert_int_equal(dma(x, (FW_CFG_FILE_FIRST + 1) << 16 | 8 | 2, 16, 0x2000), 0);
	assert_int_equal(mem_read(x->m->mem, 0x2000, buf, 16), 0);
	assert_string_equal(buf, "version 2");
	fix_free(x);
}

/* A file half read goes on where it was, with the bytes it had. */
static void saved(void **state)
{
	struct fix *x = fix_new(), *y = fix_new();
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;

	choose(x, FW_CFG_FILE_FIRST + 1);
	choose(x, FW_CFG_FILE_FIRST + 1);
	next(x);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(x->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	for (size_t cut = 0; cut < len; cut += 7) {	/* a stream that ends early is an error */
		assert_int_equal(snap_in_new(&in, p, cut), 0);
		assert_true(machine_load_devs(y->m, in, &e) < 0);
		snap_in_free(in);
	}
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(y->m, in, &e), 0);
	for (const char *c = "ersion 2"; *c; c++)
		assert_int_equal(next(y), *c);
	snap_in_free(in);
	snap_out_free(o);
	fix_free(x);
	fix_free(y);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory), cmocka_unit_test(reading), cmocka_unit_test(made_when_asked_for),
		cmocka_unit_test(saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
