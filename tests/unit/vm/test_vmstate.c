// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: a VM's state comes back from an image as it was put there, memory and all; every byte that is changed, and every length that is
 * wrong, is seen before anything of the machine is; reading that fails is an error, not a guess.
 */
#include "../unit.h"

#include "base/bits.h"
#include "machine/mem.h"
#include "vm/vmstate.h"

#define RAM (3u << 20)
#define ROOM (8u << 20)

struct fix {
	struct mem *m;
	uint8_t *file;
	uint64_t len;			/* written up to there */
	int fail;			/* requests until one fails; 0: none does */
};

static int set_up(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	f->file = calloc(1, ROOM);
	assert_int_equal(mem_new(&f->m), 0);
	assert_int_equal(mem_create_ram(f->m, RAM, MEM_HUGE_NONE, &e), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fix *f = *state;

	mem_free(f->m);
	free(f->file);
	free(f);
	return 0;
}

static int transfer(struct fix *f, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len, bool write)
{
	uint64_t all = 0;

	if (f->fail && !--f->fail)
		return -EIO;
	assert_true(len && len <= VMSTATE_CHUNK && off + len <= ROOM && len % 4096 == 0);
	for (unsigned i = 0; i < niov; i++) {
		if (write)
			memcpy(f->file + off + all, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, f->file + off + all, iov[i].iov_len);
		all += iov[i].iov_len;
	}
	assert_int_equal(all, len);
	f->len = write && off + len > f->len ? off + len : f->len;
	return 0;
}

static int do_write(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	struct fix *f = opaque;

	assert_int_equal(off % VMSTATE_CHUNK, 0);
	return transfer(f, off, iov, niov, len, true);
}

static int do_read(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	return transfer(opaque, off, iov, niov, len, false);
}

static struct vmstate_io io_of(struct fix *f) { return (struct vmstate_io){ .read = do_read, .write = do_write, .opaque = f }; }

/* Some pages in a row, single ones, the first and the last. */
static void fill(struct mem *m, uint8_t with)
{
	uint8_t *p = mem_ram_host(m);
	uint64_t pages = RAM / 4096;

	for (uint64_t i = 0; i < pages; i++)
		if (i < 3 || (i > 100 && i < 640) || i % 17 == 0 || i == pages - 1)
			memset(p + i * 4096 + i % 4096, with + (uint8_t)i % 100, 8);
}

static uint64_t put(struct fix *f, const void *state, size_t len)
{
	const struct vmstate_io io = io_of(f);
	struct vmstate_out *o;
	struct err e;
	uint64_t total;

	assert_int_equal(vmstate_plan(f->m, state, len, &o, &e), 0);
	total = vmstate_total(o);
	assert_true(vmstate_pages(o) > 500 && vmstate_pages(o) < RAM / 4096);
	assert_int_equal(vmstate_put(o, &io, &e), 0);
	assert_int_equal(f->len, total);
	vmstate_plan_free(o);
	return total;
}

static void comes_back(void **state)
{
	struct fix *f = *state;
	const struct vmstate_io io = io_of(f);
	uint8_t *was = malloc(RAM), *some = malloc(70001);
	struct vmstate_in *v;
	struct err e;
	uint64_t total;
	size_t len;

	for (unsigned i = 0; i < 70001; i++)
		some[i] = (uint8_t)(i * 7);
	fill(f->m, 1);
	memcpy(was, mem_ram_host(f->m), RAM);
	total = put(f, some, 70001);
	/* Other pages, and other contents. */
	memset(mem_ram_host(f->m), 0, RAM / 2);
	memset(mem_ram_host(f->m) + 4096 * 50, 7, 4096 * 60);
	memset(mem_ram_host(f->m) + RAM - 4096 * 40, 9, 4096 * 40);
	assert_int_equal(vmstate_open(&io, total, RAM, &v, &e), 0);
	assert_memory_equal(vmstate_state(v, &len), some, 70001);
	assert_int_equal(len, 70001);
	assert_int_equal(vmstate_load_ram(v, f->m, &e), 0);
	assert_memory_equal(mem_ram_host(f->m), was, RAM);
	vmstate_close(v);
	free(was);
	free(some);
}

/* Each byte of the head and the state, and some of the rest. */
static void damage_is_seen(void **state)
{
	struct fix *f = *state;
	const struct vmstate_io io = io_of(f);
	struct vmstate_in *v;
	uint64_t total, n = 0;
	struct err e;

	fill(f->m, 1);
	total = put(f, "some state", 10);
	for (uint64_t at = 0; at < total; at += at < 4106 ? 1 : at < 8192 + 96 ? 5 : 8191) {
		/* Between the parts nothing is looked at. */
		if ((at >= 60 && at < 4096) || (at >= 4106 && at < 8192) || (at >= 8192 + 96 && at < 12288) || (at >= total - 4096 + 12))
			continue;
		f->file[at] ^= 0x10;
		assert_int_equal(vmstate_open(&io, total, RAM, &v, &e), -EINVAL);
		f->file[at] ^= 0x10;
		n++;
	}
	assert_true(n > 250);
	assert_int_equal(vmstate_open(&io, total - 4096, RAM, &v, &e), -EINVAL);
	assert_int_equal(vmstate_open(&io, total + 4096, RAM, &v, &e), -EINVAL);
	assert_int_equal(vmstate_open(&io, 100, RAM, &v, &e), -EINVAL);
	assert_int_equal(vmstate_open(&io, total, RAM / 2, &v, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "bytes of memory"));
	assert_int_equal(vmstate_open(&io, total, 0, &v, &e), -EINVAL);
	assert_int_equal(vmstate_open(&io, total, RAM + 1, &v, &e), -EINVAL);
	memset(f->file, 0, 8);
	assert_int_equal(vmstate_open(&io, total, RAM, &v, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "none that Lodge wrote"));
}

/* The n-th request, for all n. */
static void failures_are_told(void **state)
{
	struct fix *f = *state;
	const struct vmstate_io io = io_of(f);
	struct vmstate_out *o;
	struct vmstate_in *v;
	uint64_t total;
	struct err e;
	int ret;

	fill(f->m, 1);
	total = put(f, "some state", 10);
	assert_int_equal(vmstate_plan(f->m, "x", 1, &o, &e), 0);
	for (int n = 1;; n++) {
		f->fail = n;
		ret = vmstate_put(o, &io, &e);
		if (f->fail)
			break;
		assert_int_equal(ret, -EIO);
	}
	assert_int_equal(ret, 0);
	vmstate_plan_free(o);
	for (int n = 1;; n++) {
		f->fail = n;
		ret = vmstate_open(&io, total, RAM, &v, &e);
		if (f->fail)
			break;
		assert_int_equal(ret, -EIO);
	}
	assert_int_equal(ret, 0);
	f->fail = 1;
	assert_int_equal(vmstate_load_ram(v, f->m, &e), -EIO);
	f->fail = 0;
	assert_int_equal(vmstate_load_ram(v, f->m, &e), 0);
	vmstate_close(v);
	assert_int_equal(vmstate_plan(f->m, "", 0, &o, &e), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damage_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failures_are_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
