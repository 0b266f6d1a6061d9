// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved VMs below the level of a guest: the state file refuses each damage, vCPU
 * state comes back as it was and nonsense does not, memory comes back with its
 * holes, also from a machine that went on from a file, packed and as differences,
 * damage to it is found, and configurations keep what makes the machine.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "machine/mem.h"
#include "machine/mem_image.h"
#include "machine/mem_save.h"
#include "vm/snapshot.h"

#define RAM (8ull << 20)

static void file_is_whole_or_refused(void **state)
{
	/* Version 1, and with something about memory 2. */
	const struct snapshot_section in[SNAPSHOT_SECTIONS] = { { "one", 3 }, { "", 0 }, { "three", 5 }, { "four", 4 }, { *state ? "memory" : NULL, *state ? 6 : 0 } };
	struct snapshot_section out[SNAPSHOT_SECTIONS];
	int fd = memfd_create("state", 0);
	uint8_t buf[512], copy[512];
	ssize_t n;

	assert_int_equal(snapshot_file_write(fd, in, NULL), 0);
	n = pread(fd, buf, sizeof(buf), 0);
	assert_true(n > 0 && n < (ssize_t)sizeof(buf));
	assert_int_equal(snapshot_file_parse(buf, (size_t)n, out, NULL), 0);
	for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++) {
		assert_int_equal(out[i].len, in[i].len);
		assert_int_equal(!out[i].data, !in[i].data);
		if (in[i].data)
			assert_memory_equal(out[i].data, in[i].data, in[i].len);
	}
	assert_int_equal(ld_le32(buf + 8), *state ? 2 : 1);
	for (ssize_t len = 0; len < n; len++)
		assert_int_equal(snapshot_file_parse(buf, (size_t)len, out, NULL), -EINVAL);
	for (ssize_t bit = 0; bit < n * 8; bit++) {
		memcpy(copy, buf, (size_t)n);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(snapshot_file_parse(copy, (size_t)n, out, NULL), -EINVAL);
	}
	buf[n] = 0;
	assert_int_equal(snapshot_file_parse(buf, (size_t)n + 1, out, NULL), -EINVAL);
	close(fd);
}

static struct x86_state *new_state(void)
{
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));

	assert_non_null(s);
	return s;
}

/* Saves and loads; the answer of the load. */
static int there_and_back(const struct x86_state *s, const struct x86_pending *p, struct x86_state *s2, struct x86_pending *p2)
{
	static const struct x86_cpu_model m = { .lin_bits = 48, .phys_bits = 40, .xcr0_mask = 0xe7 };
	struct snap_out *o;
	struct snap_in *in;
	const void *data;
	struct err e;
	size_t len;
	int ret;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(x86_state_save(o, 3, s, p), 0);
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	ret = x86_state_load(in, 3, &m, s2, p2, &e);
	snap_in_free(in);
	snap_out_free(o);
	return ret;
}

static void vcpu_comes_back(void **state)
{
	const struct x86_pending p = { .events = VCPU_EV_NMI | VCPU_EV_STOP, .sipi_vector = 9, .nmis = 2 };
	struct x86_state *s = new_state(), *t = new_state(), *was = new_state();
	struct x86_pending q;

	x86_state_reset(s, 3, 0);
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = 0x1111111111111111ull * i;
	memset(s->fpu.zmm, 0xa5, sizeof(s->fpu.zmm));
	s->seg[X86_FS].base = 0xffff800000000000ull;
	s->kvm_system_time = 0x1001;
	s->mtrr_var[7][1] = 77;
	s->activity = X86_HALTED;
	assert_int_equal(there_and_back(s, &p, t, &q), 0);
	assert_memory_equal(s->gpr, t->gpr, sizeof(s->gpr));
	assert_memory_equal(s->seg, t->seg, sizeof(s->seg));
	assert_memory_equal(&s->fpu, &t->fpu, sizeof(s->fpu));
	assert_int_equal(t->mtrr_var[7][1], 77);
	assert_int_equal(t->activity, X86_HALTED);
	assert_int_equal(t->kvm_system_time, 0x1001);
	assert_int_equal(q.events, VCPU_EV_NMI);
	assert_int_equal(q.sipi_vector, 9);
	assert_int_equal(q.nmis, 2);
	memcpy(was, s, sizeof(*s));
#define REFUSED(change) do { \
	memcpy(s, was, sizeof(*s)); \
	change; \
	assert_int_equal(there_and_back(s, &p, t, &q), -EINVAL); \
} while (0)
	REFUSED(s->fpu.mxcsr = 0x10000);
	REFUSED(s->cr0 = X86_CR0_PG | X86_CR0_ET);
	REFUSED(s->efer = X86_EFER_LMA);
	REFUSED(s->xcr0 = 0x2e7);
	REFUSED(s->xcr0 = 5);
	REFUSED(s->xcr0 = 0x27);
	REFUSED(s->xcr0 = 0xe3);
	REFUSED(s->activity = X86_SHUTDOWN);
	REFUSED(s->seg[X86_CS].attr = X86_AR_L | 0x9b);
	REFUSED(s->seg[X86_GS].base = 1ull << 60);
	REFUSED(s->rip = 1ull << 40);
#undef REFUSED
	free(s);
	free(t);
	free(was);
}

/* ---- memory ---- */

struct file {
	int fd;
	struct mem_index ix;
};

/* Of these files, the lowest first; without: no index. */
static struct mem_image *image_of(const struct file *f, unsigned n, bool without)
{
	struct mem_image *img;

	assert_int_equal(mem_image_new(RAM, &img), 0);
	for (unsigned i = 0; i < n; i++) {
		struct mem_index ix;
		uint8_t *bytes;
		size_t len;

		assert_int_equal(mem_index_bytes(&f[i].ix, &bytes, &len), 0);
		assert_int_equal(mem_index_parse(bytes, len, RAM, &ix, NULL), 0);
		assert_int_equal(mem_image_push(img, dup(f[i].fd), without ? NULL : &ix, NULL), 0);
		if (without)
			mem_index_free(&ix);
		free(bytes);
	}
	return img;
}

static struct mem *mem_with(struct mem_image *img, bool copy)
{
	struct mem *m;

	assert_int_equal(mem_new(&m), 0);
	if (!img)
		assert_int_equal(mem_create_ram(m, RAM, MEM_HUGE_NONE, NULL), 0);
	else
		assert_int_equal(mem_create_ram_from(m, RAM, MEM_HUGE_NONE, &img, copy, NULL), 0);
	assert_null(img);
	assert_int_equal(mem_add_ram(m, "ram", 0, 0, RAM, NULL), 0);
	return m;
}

static struct file saved(struct mem *m, const struct mem_image *below, uint64_t *written)
{
	struct file f = { .fd = memfd_create("memory", 0) };

	assert_int_equal(mem_ram_save(m, f.fd, below, &f.ix, written, NULL), 0);
	if (below)
		f.ix.below = strdup("/below");
	return f;
}

static struct file packed(const struct file *raw)
{
	struct file f = { .fd = memfd_create("packed", 0) };
	uint64_t n;
	uint8_t *bytes;
	struct stat st;
	size_t len;

	assert_int_equal(mem_index_bytes(&raw->ix, &bytes, &len), 0);
	assert_int_equal(mem_index_parse(bytes, len, RAM, &f.ix, NULL), 0);
	free(bytes);
	assert_int_equal(mem_save_pack(raw->fd, f.fd, &f.ix, &n, NULL), 0);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_int_equal(st.st_size, n);
	return f;
}

static void done_with(struct file *f)
{
	close(f->fd);
	mem_index_free(&f->ix);
}

static void memory_comes_back(void **state)
{
	bool without = *state;
	struct mem *m = mem_with(NULL, false), *a, *b, *c;
	uint64_t n, v = 0x0123456789abcdefull, w = 5, got;
	struct mem_image *img;
	struct file f, f2;
	struct stat st;

	assert_int_equal(mem_write(m, 0x1000, &v, 8), 0);
	assert_int_equal(mem_write(m, RAM - 8, &v, 8), 0);
	assert_int_equal(mem_read(m, 0x400000, &got, 8), 0);	/* a page of zeros */
	f = saved(m, NULL, &n);
	assert_int_equal(n, 2 * PAGE_4K);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_int_equal(st.st_size, RAM);
	assert_true(st.st_blocks * 512ll < (off_t)RAM / 2);
	a = mem_with(image_of(&f, 1, without), false);
	b = mem_with(image_of(&f, 1, without), true);
	assert_int_equal(mem_ram_fd(a), -1);
	assert_true(mem_ram_fd(b) >= 0);
	/* What one writes is its own. */
	assert_int_equal(mem_write(a, 0x200000, &w, 8), 0);
	assert_int_equal(mem_write(a, 0x1008, &w, 8), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(mem_read(i ? b : a, 0x1000, &got, 8), 0);
		assert_true(got == v);
		assert_int_equal(mem_read(i ? b : a, 0x200000, &got, 8), 0);
		assert_true(got == (i ? 0 : w));
	}
	f2 = saved(a, NULL, &n);
	assert_int_equal(n, 3 * PAGE_4K);
	c = mem_with(image_of(&f2, 1, without), false);
	assert_memory_equal(mem_ram_host(a), mem_ram_host(c), RAM);
	assert_int_equal(mem_ram_release(a, 0x200000, PAGE_4K), 0);
	assert_int_equal(mem_ram_release(b, 0x1000, PAGE_4K), 0);
	assert_int_equal(mem_read(b, 0x1000, &got, 8), 0);
	assert_true(got == 0);
	mem_free(m);
	mem_free(a);
	mem_free(b);
	mem_free(c);
	assert_int_equal(ftruncate(f.fd, RAM - PAGE_4K), 0);
	assert_int_equal(mem_image_new(RAM, &img), 0);
	assert_int_equal(mem_image_push(img, dup(f.fd), NULL, NULL), -EINVAL);
	mem_image_free(img);
	done_with(&f);
	done_with(&f2);
}

static void scribble(struct mem *m, unsigned seed, unsigned n)
{
	srand(seed);
	while (n--) {
		uint64_t at = (uint64_t)((unsigned)rand() % (RAM / PAGE_4K)) * PAGE_4K;
		uint8_t page[PAGE_4K];

		memset(page, rand() % 3 ? rand() : 0, sizeof(page));
		assert_int_equal(mem_write(m, at, page, sizeof(page)), 0);
	}
}

static void same(struct mem *m, const struct file *f, unsigned n)
{
	bool raw = true;

	for (unsigned i = 0; i < n; i++)
		raw = raw && !f[i].ix.packed;
	for (unsigned copy = 0; copy < 2; copy++) {
		struct mem_image *img = image_of(f, n, false);
		struct mem *b;

		assert_int_equal(mem_image_mappable(img), raw);
		assert_int_equal(mem_image_check(img, NULL), 0);
		b = mem_with(img, copy);
		assert_int_equal(mem_ram_fd(b) < 0, raw && !copy);
		assert_memory_equal(mem_ram_host(m), mem_ram_host(b), RAM);
		mem_free(b);
	}
}

/* A guest that is saved and goes on, in itself or from its snapshot, each time as a difference of the one before, raw or packed. */
static void differences_come_back(void **state)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		struct mem *m = mem_with(NULL, false);
		struct file f[4];
		uint64_t n;

		scribble(m, kind, 700);
		f[0] = saved(m, NULL, &n);
		for (unsigned i = 1; i < 4; i++) {
			struct mem_image *below;
			uint64_t all;

			if (kind & 1) {
				struct mem *next = mem_with(image_of(f, i, false), false);

				mem_free(m);
				m = next;
			}
			if (kind & 2 && i < 3) {
				struct file p = packed(&f[i - 1]);

				done_with(&f[i - 1]);
				f[i - 1] = p;
			}
			scribble(m, 10 * kind + i, i == 2 ? 0 : 100);
			below = image_of(f, i, false);
			f[i] = saved(m, below, &n);
			all = (uint64_t)f[i].ix.n;
			assert_true(i == 2 ? !all : all && n <= 100 * PAGE_4K);
			mem_image_free(below);
			same(m, f, i + 1);
		}
		mem_free(m);
		for (unsigned i = 0; i < 4; i++)
			done_with(&f[i]);
	}
}

/* Every other page of a machine, so that runs are joined, changed and made zero. */
static void pieces_are_bounded(void **state)
{
	static const uint64_t size = (MEM_DIFF_RUNS + 100) * 2 * PAGE_4K;
	struct mem_image *below, *img;
	struct mem *m, *b;
	struct file f[2] = { { .fd = memfd_create("a", 0) }, { .fd = memfd_create("b", 0) } };
	uint64_t n, v = 1, runs = 0;

	assert_int_equal(mem_new(&m), 0);
	assert_int_equal(mem_create_ram(m, size, MEM_HUGE_NONE, NULL), 0);
	assert_int_equal(mem_add_ram(m, "ram", 0, 0, size, NULL), 0);
	for (uint64_t at = 0; at < size; at += 6 * PAGE_4K)
		assert_int_equal(mem_write(m, at, &v, 8), 0);
	assert_int_equal(mem_ram_save(m, f[0].fd, NULL, &f[0].ix, &n, NULL), 0);
	assert_int_equal(mem_image_new(size, &below), 0);
	assert_int_equal(mem_image_push(below, f[0].fd, &f[0].ix, NULL), 0);
	for (uint64_t at = 0; at < size; at += 2 * PAGE_4K) {
		v = at % (6 * PAGE_4K) ? 2 : 0;
		assert_int_equal(mem_write(m, at, &v, 8), 0);
	}
	assert_int_equal(mem_ram_save(m, f[1].fd, below, &f[1].ix, &n, NULL), 0);
	for (uint32_t i = 0, last = 0; i < f[1].ix.n; i++)
		for (unsigned k = 0; k < MEM_BLOCK_PAGES; k++) {
			runs += !last && f[1].ix.block[i].pages >> k & 1;
			last = f[1].ix.block[i].pages >> k & 1;
		}
	assert_true(runs <= MEM_DIFF_RUNS);
	f[1].ix.below = strdup("/below");
	img = below;
	assert_int_equal(mem_image_push(img, f[1].fd, &f[1].ix, NULL), 0);
	assert_int_equal(mem_new(&b), 0);
	assert_int_equal(mem_create_ram_from(b, size, MEM_HUGE_NONE, &img, false, NULL), 0);
	assert_memory_equal(mem_ram_host(m), mem_ram_host(b), size);
	mem_free(b);
	mem_free(m);
}

static void damage_to_memory_is_found(void **state)
{
	struct mem *m = mem_with(NULL, false);
	struct file raw, f[2];
	uint8_t *bytes, byte;
	struct mem_index ix;
	uint64_t n;
	size_t len;

	scribble(m, 3, 300);
	raw = saved(m, NULL, &n);
	f[0] = packed(&raw);
	f[1] = raw;
	for (unsigned i = 0; i < 2; i++) {
		const struct mem_block *b = &f[i].ix.block[5];
		uint64_t at = i ? (uint64_t)b->nr * MEM_BLOCK + (unsigned)__builtin_ctz(b->pages) * PAGE_4K + 9 : b->at + b->len / 2;
		struct mem_image *img = image_of(&f[i], 1, false);
		char where[40];
		struct err e;

		assert_int_equal(pread(f[i].fd, &byte, 1, (off_t)at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(f[i].fd, &byte, 1, (off_t)at), 1);
		assert_int_equal(mem_image_check(img, &e), -EINVAL);
		snprintf(where, sizeof(where), "0x%llx ", (unsigned long long)b->nr * MEM_BLOCK);
		assert_non_null(strstr(e.msg, where));
		mem_image_free(img);
	}
	/* Each bit of the index; that of another machine. */
	assert_int_equal(mem_index_bytes(&raw.ix, &bytes, &len), 0);
	assert_int_equal(mem_index_parse(bytes, len, RAM + PAGE_4K, &ix, NULL), -EINVAL);
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(mem_index_parse(bytes, len, RAM, &ix, NULL), -EINVAL);
		bytes[i] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(mem_index_parse(bytes, i, RAM, &ix, NULL), -EINVAL);
	}
	free(bytes);
	done_with(&f[0]);
	done_with(&raw);
	mem_free(m);
}

static void configuration_is_the_machine_s(void **state)
{
	struct conf *c, *own;

	assert_int_equal(conf_new(&c), 0);
	assert_int_equal(conf_set(c, "name", "me", NULL), 0);
	assert_int_equal(conf_set(c, "memory", "1G", NULL), 0);
	assert_int_equal(conf_set(c, "kernel", "vmlinuz", NULL), 0);
	assert_int_equal(conf_set(c, "net.0.kind", "user", NULL), 0);
	assert_int_equal(conf_set(c, "net.0.fwd.0", "tcp:2222:22", NULL), 0);
	assert_int_equal(conf_set(c, "firmware", "uefi", NULL), 0);
	assert_int_equal(conf_set(c, "debugcon", "log", NULL), 0);
	assert_int_equal(conf_set(c, "disk.0.key.0", "file:secret", NULL), 0);
	assert_int_equal(vm_snapshot_own(c, &own, NULL), 0);
	assert_null(conf_get(own, "name"));
	assert_null(conf_get(own, "net.0.fwd.0"));
	assert_string_equal(conf_get(own, "memory"), "1G");
	assert_string_equal(conf_get(own, "net.0.kind"), "user");
	assert_true(conf_get(own, "kernel")[0] == '/');
	assert_string_equal(conf_get(own, "firmware"), "uefi");
	assert_true(conf_get(own, "debugcon")[0] == '/');
	assert_true(!strncmp(conf_get(own, "disk.0.key.0"), "file:/", 6));
	conf_free(own);
	assert_int_equal(conf_set(c, "firmware", "mine.fd", NULL), 0);
	assert_int_equal(vm_snapshot_own(c, &own, NULL), 0);
	assert_true(conf_get(own, "firmware")[0] == '/');
	conf_free(own);
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(file_is_whole_or_refused),
		cmocka_unit_test_prestate(file_is_whole_or_refused, (void *)"memory"),
		cmocka_unit_test(vcpu_comes_back),
		cmocka_unit_test(memory_comes_back),
		cmocka_unit_test_prestate(memory_comes_back, (void *)"without an index"),
		cmocka_unit_test(differences_come_back),
		cmocka_unit_test(pieces_are_bounded),
		cmocka_unit_test(damage_to_memory_is_found),
		cmocka_unit_test(configuration_is_the_machine_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
