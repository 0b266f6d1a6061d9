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

struct gone {
	unsigned n, last, loads;
};

static void on_ejected(void *opaque, unsigned id)
{
	struct gone *g = opaque;

	g->n++;
	g->last = id;
}

static void on_loaded(void *opaque) { ((struct gone *)opaque)->loads++; }

static unsigned nb_cpus(struct fix *f)
{
	uint16_t key = 5, v = 0;

	bus_access_locked(f->m->pio, LAYOUT_PORT_FW_CFG, &key, 2, true);
	for (unsigned i = 0; i < 2; i++)
		bus_access_locked(f->m->pio, LAYOUT_PORT_FW_CFG + 1, (uint8_t *)&v + i, 1, false);
	return v;
}

/* CPUs come, go when the guest ejects them, and stay over a reset; both machines have the registers. */
static void cpus_come_and_go(void **state)
{
	for (int k = 0; k < 2; k++) {
		struct gone g = { 0 };
		struct platform_config c = { .kind = k ? PLATFORM_MICRO : PLATFORM_PC, .mem_size = 16 * MIB, .n_vcpus = 4, .cpu_hotplug = true, .vcpus_absent = 0xa,
					     .cpu_ejected = on_ejected, .cpus_loaded = on_loaded, .cpu_opaque = &g };
		struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
		uint32_t sel = 3, event, status;
		uint8_t eject = 8;
		struct fix f;

		assert_int_equal(build(&f, &c, 4), 0);
		assert_int_equal(platform_boot(f.p, &f.err), 0);
		assert_int_equal(platform_cpus(f.p), 0x5);
		assert_true(k || nb_cpus(&f) == 2);
		assert_true(atomic_load(&f.m->vcpus[3]->absent));
		assert_int_equal(cpu_engine_puppet.state_get(f.m->vcpus[3], s), 0);
		assert_int_equal(s->apic_base, 0xfee00000);		/* off */
		assert_int_equal(platform_cpu_plug(f.p, 4, &f.err), -EINVAL);
		assert_int_equal(platform_cpu_plug(f.p, 0, &f.err), -EEXIST);
		assert_int_equal(platform_cpu_ask(f.p, 3), -EINVAL);
		s->rip = 1;
		assert_int_equal(cpu_engine_puppet.state_set(f.m->vcpus[3], s), 0);
		atomic_store(&f.m->vcpus[3]->events, VCPU_EV_INIT | VCPU_EV_SIPI | VCPU_EV_FLUSH | VCPU_EV_STOP);
		assert_int_equal(platform_cpu_plug(f.p, 3, &f.err), 0);
		assert_int_equal(platform_cpu_plug(f.p, 3, &f.err), -EEXIST);
		/* As after power-on, but for what its engine has to be told. */
		assert_int_equal(atomic_load(&f.m->vcpus[3]->events) & ~VCPU_EV_ENGINE, VCPU_EV_FLUSH);
		assert_int_equal(cpu_engine_puppet.state_get(f.m->vcpus[3], s), 0);
		assert_int_equal(s->apic_base, 0xfee00800);
		assert_int_equal(s->activity, X86_WAIT_SIPI);
		assert_int_equal(s->rip, 0xfff0);
		assert_false(atomic_load(&f.m->vcpus[3]->absent));
		assert_true(k || nb_cpus(&f) == 3);
		assert_int_equal(platform_cpu_ask(f.p, 3), 0);
		assert_int_equal(platform_cpu_ask(f.p, 0), -EINVAL);
		assert_int_equal(platform_cpus_asked(f.p), 0x8);
		bus_access_locked(f.m->pio, LAYOUT_PORT_CPUHP, &sel, 4, true);
		bus_access_locked(f.m->pio, LAYOUT_PORT_CPUHP + 4, &eject, 1, true);
		assert_int_equal(g.n, 1);
		assert_int_equal(g.last, 3);
		assert_true(atomic_load(&f.m->vcpus[3]->absent));
		platform_cpu_gone(f.p, 3);
		assert_int_equal(platform_cpu_plug(f.p, 1, &f.err), 0);
		assert_int_equal(platform_boot(f.p, &f.err), 0);
		assert_int_equal(platform_cpus(f.p), 0x7);
		assert_true(k || nb_cpus(&f) == 3);
		assert_true(platform_cpu_ost(f.p, 1, &event, &status));
		assert_false(platform_cpu_ost(f.p, 4, &event, &status));
		destroy(&f);
		free(s);
	}
}

/* Behind RAM and at multiples of 1 GiB, with nothing there yet; BARs come behind it, and the tables tell. */
static void memory_has_a_place(void **state)
{
	for (int k = 0; k < 2; k++) {
		struct platform_config c = { .kind = k ? PLATFORM_MICRO : PLATFORM_PC, .mem_size = 2880 * MIB, .n_vcpus = 1,
					     .memory = { { 1536 * MIB, 0 }, { 3 * MIB, 1 }, { 1024 * MIB, 0 } }, .n_memory = 3 };
		uint64_t gpa, offset, rsdp = LAYOUT_ACPI, xsdt = 0, table = 0;
		uint8_t b[4], tables[512];
		struct mem_range r;
		struct fix f;
		bool srat = false;

		assert_int_equal(build(&f, &c, 1), 0);
		platform_memory_place(&c, 0, &gpa, &offset);
		assert_int_equal(gpa, 5ull << 30);
		assert_int_equal(offset, 2880 * MIB);
		c.vram_size = MIB;
		platform_memory_place(&c, 0, &gpa, &offset);
		assert_int_equal(gpa, 5ull << 30);
		assert_int_equal(offset, 2882 * MIB);	/* for large pages */
		c.vram_size = 0;
		platform_memory_place(&c, 1, &gpa, &offset);
		assert_int_equal(gpa, 7ull << 30);
		platform_memory_place(&c, 2, &gpa, &offset);
		assert_int_equal(gpa, 8ull << 30);
		assert_int_equal(platform_backing_size(&c), offset + 1024 * MIB);
		assert_int_equal(mem_ram_size(f.m->mem), offset + 1024 * MIB);
		assert_false(mem_find(f.m->mem, 5ull << 30, &r));
		assert_int_equal(platform_boot(f.p, &f.err), 0);
		assert_int_equal(mem_read(f.m->mem, rsdp + 24, &xsdt, 8), 0);
		assert_int_equal(mem_read(f.m->mem, xsdt, tables, sizeof(tables)), 0);
		for (unsigned i = 36; i < ld_le32(tables + 4) && !srat; i += 8) {
			table = ld_le64(tables + i);
			assert_int_equal(mem_read(f.m->mem, table, b, 4), 0);
			srat = !memcmp(b, "SRAT", 4);
		}
		assert_true(srat);
		destroy(&f);
		/* Not where there are no addresses. */
		c.phys_bits = 36;
		c.memory[2].size = 57ull << 30;
		assert_int_equal(build(&f, &c, 1), -EINVAL);
		assert_non_null(strstr(f.err.msg, "36 physical address bits"));
		destroy(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations),
		cmocka_unit_test(slots_run_out),
		cmocka_unit_test(vcpus_after_boot),
		cmocka_unit_test(cpus_come_and_go),
		cmocka_unit_test(memory_has_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
