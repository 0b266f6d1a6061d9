// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: impossible configurations are refused by name, slots run out with an
 * error and nothing leaks, and after platform_boot, the first and any later
 * one, the boot processor stands at the kernel's entry and the others wait.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "platform/x86/layout.h"
#include "platform/x86/platform.h"
#include "virtio/rng.h"

#define MIB (1ull << 20)

struct fix {
	struct machine *m;
	struct cpu_engine *e;
	struct platform *p;
	struct err err;
};

static int build(struct fix *f, const struct platform_config *cfg, unsigned n_vcpus)
{
	struct cpu_engine_config ec = { .n_vcpus = n_vcpus };

	memset(f, 0, sizeof(*f));
	assert_int_equal(machine_new(&f->m, true), 0);
	assert_int_equal(cpu_engine_puppet.init(f->m, &ec, &f->e, &f->err), 0);
	for (unsigned i = 0; i < n_vcpus; i++)
		assert_int_equal(cpu_engine_puppet.vcpu_create(f->e, i, &f->err), 0);
	f->m->n_vcpus = n_vcpus;
	return platform_new(f->m, f->e, cfg, &f->p, &f->err);
}

static void destroy(struct fix *f)
{
	machine_free_devs(f->m);
	cpu_engine_puppet.free(f->e);
	machine_free(f->m);
	platform_free(f->p);
}

static void bad_configurations(void **state)
{
	static const struct {
		struct platform_config c;
		const char *text;
	} bad[] = {
		{ { .mem_size = 512 * 1024, .n_vcpus = 1 }, "at least 1 MiB" },
		{ { .mem_size = 16 * MIB + 1, .n_vcpus = 1 }, "units of 4 KiB" },
		{ { .mem_size = 16 * MIB, .n_vcpus = 0 }, "vCPUs" },
		{ { .mem_size = 16 * MIB, .n_vcpus = 65 }, "65 vCPUs: between 1 and 64" },
		{ { .mem_size = 128ull << 30, .n_vcpus = 1, .phys_bits = 36 }, "36 physical address bits" },
	};
	struct fix f;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(build(&f, &bad[i].c, 1), -EINVAL);
		if (!strstr(f.err.msg, bad[i].text))
			fail_msg("'%s' does not say '%s'", f.err.msg, bad[i].text);
		destroy(&f);
	}
}

static void slots_run_out(void **state)
{
	const enum platform_kind kinds[] = { PLATFORM_PC, PLATFORM_MICRO };
	struct virtio_dev *d;
	struct fix f;
	char id[16];

	for (int k = 0; k < 2; k++) {
		struct platform_config c = { .kind = kinds[k], .mem_size = 16 * MIB, .n_vcpus = 1 };
		unsigned n = 0;
		int r = 0;

		assert_int_equal(build(&f, &c, 1), 0);
		while (r == 0 && n < 100) {
			snprintf(id, sizeof(id), "rng%u", n++);
			assert_int_equal(virtio_rng_new(f.m, id, &d, &f.err), 0);
			r = platform_add_virtio(f.p, d, &f.err);
		}
		assert_true(r < 0 && n > 30 && n < 100);
		assert_true(f.err.msg[0]);
		/* The full machine still boots: its tables fit. */
		assert_int_equal(platform_boot(f.p, &f.err), 0);
		destroy(&f);
	}
}

/* A minimal Multiboot image whose header carries its addresses. */
static void write_kernel(char *path)
{
	uint32_t img[64] = { 0x1badb002, 0x10000, 0u - 0x1badb002 - 0x10000,
			     0x100000, 0x100000, 0, 0, 0x100040 };
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, img, sizeof(img)), sizeof(img));
	close(fd);
}

static void vcpus_after_boot(void **state)
{
	char path[] = "/tmp/lodge-kernel-XXXXXX";
	struct platform_config c = { .mem_size = 4096 * MIB, .n_vcpus = 2, .kernel = path };
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
	uint8_t sig[8];
	struct fix f;

	assert_non_null(s);
	write_kernel(path);
	assert_int_equal(build(&f, &c, 2), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(platform_boot(f.p, &f.err), 0);
		assert_string_equal(platform_boot_kind(f.p), "Multiboot");
		assert_int_equal(cpu_engine_puppet.state_get(f.m->vcpus[0], s), 0);
		assert_int_equal(s->rip, 0x100040);
		assert_int_equal(s->activity, X86_ACTIVE);
		assert_int_equal(s->cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
		assert_int_equal(s->apic_base, 0xfee00900);
		s->rip = 0;
		assert_int_equal(cpu_engine_puppet.state_set(f.m->vcpus[0], s), 0);
		assert_int_equal(cpu_engine_puppet.state_get(f.m->vcpus[1], s), 0);
		assert_int_equal(s->activity, X86_WAIT_SIPI);
		assert_int_equal(s->apic_base, 0xfee00800);
		/* Tables are written anew each time; RAM above the hole is at 4 GiB. */
		assert_int_equal(mem_read(f.m->mem, LAYOUT_ACPI, sig, 8), 0);
		assert_memory_equal(sig, "RSD PTR ", 8);
		assert_int_equal(mem_write(f.m->mem, LAYOUT_ACPI, "destroyed", 8), 0);
		assert_int_equal(mem_write(f.m->mem, LAYOUT_4G + 1024 * MIB - 8, sig, 8), 0);
		assert_int_equal(mem_write(f.m->mem, LAYOUT_LOW_MAX, sig, 8), -EFAULT);
	}
	/* The kernel went away between two boots: an error that names it. */
	unlink(path);
	assert_int_equal(platform_boot(f.p, &f.err), -ENOENT);
	assert_non_null(strstr(f.err.msg, path));
	destroy(&f);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations),
		cmocka_unit_test(slots_run_out),
		cmocka_unit_test(vcpus_after_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
