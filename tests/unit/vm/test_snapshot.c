// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved VMs below the level of a guest: the state file refuses each damage, vCPU
 * state comes back as it was and nonsense does not, memory comes back with its
 * holes, also from a machine that went on from a file, and configurations keep
 * what makes the machine.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "machine/mem.h"
#include "vm/snapshot.h"

#define RAM (8ull << 20)

static void file_is_whole_or_refused(void **state)
{
	const struct snapshot_section in[SNAPSHOT_SECTIONS] = { { "one", 3 }, { "", 0 }, { "three", 5 }, { "four", 4 } };
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
		assert_memory_equal(out[i].data, in[i].data, in[i].len);
	}
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

static struct mem *mem_with(int fd, bool copy)
{
	struct mem *m;

	assert_int_equal(mem_new(&m), 0);
	if (fd < 0)
		assert_int_equal(mem_create_ram(m, RAM, MEM_HUGE_NONE, NULL), 0);
	else
		assert_int_equal(mem_create_ram_from(m, RAM, MEM_HUGE_NONE, fd, copy, NULL), 0);
	assert_int_equal(mem_add_ram(m, "ram", 0, 0, RAM, NULL), 0);
	return m;
}

static int saved(struct mem *m, uint64_t *written)
{
	int fd = memfd_create("memory", 0);

	assert_int_equal(mem_ram_save(m, fd, written, NULL), 0);
	return fd;
}

static void memory_comes_back(void **state)
{
	struct mem *m = mem_with(-1, false), *a, *b, *c;
	uint64_t n, v = 0x0123456789abcdefull, w = 5, got;
	int fd, fd2;
	struct stat st;

	assert_int_equal(mem_write(m, 0x1000, &v, 8), 0);
	assert_int_equal(mem_write(m, RAM - 8, &v, 8), 0);
	assert_int_equal(mem_read(m, 0x400000, &got, 8), 0);	/* a page of zeros */
	fd = saved(m, &n);
	assert_int_equal(n, 2 * PAGE_4K);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, RAM);
	assert_true(st.st_blocks * 512ll < (off_t)RAM / 2);
	a = mem_with(fd, false);
	b = mem_with(fd, true);
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
	fd2 = saved(a, &n);
	assert_int_equal(n, 3 * PAGE_4K);
	c = mem_with(fd2, false);
	assert_memory_equal(mem_ram_host(a), mem_ram_host(c), RAM);
	assert_int_equal(mem_ram_release(a, 0x200000, PAGE_4K), 0);
	assert_int_equal(mem_ram_release(b, 0x1000, PAGE_4K), 0);
	assert_int_equal(mem_read(b, 0x1000, &got, 8), 0);
	assert_true(got == 0);
	mem_free(m);
	mem_free(a);
	mem_free(b);
	mem_free(c);
	assert_int_equal(ftruncate(fd, RAM - PAGE_4K), 0);
	assert_int_equal(mem_new(&m), 0);
	assert_int_equal(mem_create_ram_from(m, RAM, MEM_HUGE_NONE, fd, false, NULL), -EINVAL);
	mem_free(m);
	close(fd);
	close(fd2);
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
		cmocka_unit_test(vcpu_comes_back),
		cmocka_unit_test(memory_comes_back),
		cmocka_unit_test(configuration_is_the_machine_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
