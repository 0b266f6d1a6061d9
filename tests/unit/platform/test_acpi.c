// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: the firmware tables are well formed (lengths, checksums, pointers),
 * and ACPICA's compiler disassembles and recompiles them without an error.
 */
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
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/smbios.h"

#define BASE 0xe0000ull

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static const struct acpi_config pc = {
	.n_vcpus = 4, .serial = 0xf, .pci64_base = 1ull << 38, .pci64_size = 1ull << 38,
	.pci32 = { { 0xc0000000, 0x20000000 }, { 0xf0000000, 0xec00000 } }, .ecam_base = 0xe0000000, .ecam_buses = 256,
	.pic_irq = { 10, 11, 10, 11 }, .tpm = ACPI_TPM_CRB, .vmgenid = true, .floppy = { { 4, 80, 2, 18 }, { 2, 80, 2, 15 } },
};
static const struct acpi_config micro = { .reduced = true, .n_vcpus = 64, .serial = 1, .n_mmio = 32, .vmgenid = true };
/* CPUs come and go, and cards: in slots 1 to 22 but 3, while a root port has number 5. */
static const struct acpi_config pc_hot = {
	.n_vcpus = 64, .cpu_hotplug = true, .cpus_absent = ~7ull, .serial = 1, .pci64_base = 1ull << 38, .pci64_size = 1ull << 38,
	.pci32 = { { 0xc0000000, 0x20000000 } }, .ecam_base = 0xe0000000, .ecam_buses = 256, .pic_irq = { 10, 11, 10, 11 }, .vmgenid = true,
	.pci_hotplug = true, .slots = 0x7ffff6, .root_port_numbers = 0x20,
};
/* Three nodes, the first astride the VGA's hole, the second that below 4 GiB; the last has no CPU.  More memory may come. */
#define MIB (1ull << 20)
static const struct acpi_config pc_numa = {
	.n_vcpus = 4, .cpu_hotplug = true, .cpus_absent = ~3ull, .serial = 1, .pci64_base = 1ull << 38, .pci64_size = 1ull << 38,
	.pci32 = { { 0xc0000000, 0x20000000 } }, .ecam_base = 0xe0000000, .ecam_buses = 256, .pic_irq = { 10, 11, 10, 11 }, .tpm = ACPI_TPM_CRB,
	.numa = { .n_nodes = 3, .memory = 4608 * MIB, .node_memory = { 1024 * MIB, 3072 * MIB, 512 * MIB }, .cpu_node = { 0, 1, 1, 0 },
		  .distance = { { 10, 21, 31 }, { 22, 10, 41 }, { 31, 255, 10 } } },
	.memory_to_come = { { 1ull << 35, 1ull << 30, 2 } }, .n_memory_to_come = 1,
};
static const struct acpi_config micro_hot = { .reduced = true, .n_vcpus = 3, .cpu_hotplug = true, .cpus_absent = ~1ull, .serial = 1, .n_mmio = 2 };

/* Calls fn for every table the XSDT lists, and the DSDT. */
static unsigned each_table(const struct aml *a, void (*fn)(const uint8_t *table, uint32_t len))
{
	uint64_t xsdt = ld_le64(a->buf + 24) - BASE;
	unsigned n;

	assert_memory_equal(a->buf, "RSD PTR ", 8);
	assert_int_equal(sum(a->buf, 20), 0);
	assert_int_equal(sum(a->buf, 36), 0);
	assert_true(xsdt + 36 < a->len);
	n = (ld_le32(a->buf + xsdt + 4) - 36) / 8;
	fn(a->buf + xsdt, ld_le32(a->buf + xsdt + 4));
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = ld_le64(a->buf + xsdt + 36 + 8 * i) - BASE;
		uint32_t len;

		assert_true(at + 36 < a->len);
		len = ld_le32(a->buf + at + 4);
		assert_true(at + len <= a->len);
		fn(a->buf + at, len);
		if (!memcmp(a->buf + at, "FACP", 4)) {
			uint64_t dsdt = ld_le64(a->buf + at + 140) - BASE;

			assert_int_equal(len, 276);
			fn(a->buf + dsdt, ld_le32(a->buf + dsdt + 4));
		}
	}
	return n;
}

static void check_sum(const uint8_t *t, uint32_t len)
{
	assert_int_equal(sum(t, len), 0);
}

static void tables_are_well_formed(void **state)
{
	struct aml a;

	assert_int_equal(acpi_build(&pc, BASE, &a), 0);
	assert_int_equal(each_table(&a, check_sum), 6);
	assert_true(a.len < 0x10000);
	aml_free(&a);
	assert_int_equal(acpi_build(&micro, BASE, &a), 0);
	assert_int_equal(each_table(&a, check_sum), 2);
	assert_true(a.len < 0x10000);
	aml_free(&a);
}

static char dir[] = "/tmp/lodge-acpi-XXXXXX";

/* Writes NAME.dat, disassembles, recompiles: no error may be reported. */
static void through_iasl(const uint8_t *t, uint32_t len)
{
	char cmd[512];
	uint8_t *copy = malloc(len), *id;
	FILE *f;

	/* A name of QEMU's that ACPI does not allow, by which its drivers know the device. */
	memcpy(copy, t, len);
	id = memmem(copy, len, "QEMUVGID", 8);
	if (id)
		memcpy(id, "QEMU0002", 8);
	snprintf(cmd, sizeof(cmd), "%s/%.4s.dat", dir, (const char *)t);
	f = fopen(cmd, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(copy, 1, len, f), len);
	fclose(f);
	free(copy);
	snprintf(cmd, sizeof(cmd),
		 "cd %s && iasl -d %.4s.dat > d.log 2>&1 && iasl -oE %.4s.dsl > c.log 2>&1 && "
		 "grep -q ' 0 Errors, 0 Warnings' c.log || { cat d.log c.log; exit 1; }",
		 dir, (const char *)t, (const char *)t);
	if (system(cmd))
		fail_msg("iasl does not accept table %.4s", (const char *)t);
}

static void iasl_accepts_them(void **state)
{
	const struct acpi_config *cfg[] = { &pc, &micro, &pc_hot, &micro_hot, &pc_numa };
	char cmd[128];
	struct aml a;

	if (system("iasl -v > /dev/null 2>&1")) {
		print_message("SKIP: iasl (package acpica-tools) is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_LEN(cfg); i++) {
		assert_int_equal(acpi_build(cfg[i], BASE, &a), 0);
		each_table(&a, through_iasl);
		aml_free(&a);
	}
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

/* Walks the structures as an OS does; the last must be type 127. */
static unsigned madt_enabled, madt_capable;

static void look_at_madt(const uint8_t *t, uint32_t len)
{
	if (memcmp(t, "APIC", 4))
		return;
	madt_enabled = madt_capable = 0;
	for (uint32_t at = 44; at < len; at += t[at + 1]) {
		uint32_t flags = t[at] ? 0 : ld_le32(t + at + 4);

		assert_true(flags <= 2 && t[at + 1]);
		madt_enabled += flags == 1;
		madt_capable += flags == 2;
	}
}

/* Those that may come are in the MADT, and told apart from those that are there. */
static void madt_knows_absent_cpus(void **state)
{
	struct aml a;

	assert_int_equal(acpi_build(&pc_hot, BASE, &a), 0);
	each_table(&a, look_at_madt);
	assert_int_equal(madt_enabled, 3);
	assert_int_equal(madt_capable, 61);
	assert_non_null(memmem(a.buf, a.len, "_E02", 4));
	aml_free(&a);
	assert_int_equal(acpi_build(&pc, BASE, &a), 0);
	each_table(&a, look_at_madt);
	assert_int_equal(madt_enabled, 4);
	assert_int_equal(madt_capable, 0);
	assert_null(memmem(a.buf, a.len, "_E02", 4));
	aml_free(&a);
}

/* The name, the address and the number of a slot's device, as AML has them. */
static bool has_slot(const struct aml *a, const char *name, uint32_t slot, uint8_t number)
{
	uint8_t want[4 + 1 + 4 + 5 + 1 + 4 + 2];

	memcpy(want, name, 4);
	memcpy(want + 4, "\x08_ADR\x0c", 6);
	st_le32(want + 10, slot << 16);
	memcpy(want + 14, "\x08_SUN\x0a", 6);
	want[20] = number;
	return memmem(a->buf, a->len, want, sizeof(want));
}

static void slots_come_and_go(void **state)
{
	struct aml a;

	assert_int_equal(acpi_build(&pc_hot, BASE, &a), 0);
	assert_non_null(memmem(a.buf, a.len, "_E01", 4));
	assert_true(has_slot(&a, "SL02", 2, 2));
	assert_true(has_slot(&a, "SL16", 22, 22));
	assert_true(has_slot(&a, "SL05", 5, 105));
	assert_null(memmem(a.buf, a.len, "SL03", 4));
	assert_null(memmem(a.buf, a.len, "SL17", 4));
	aml_free(&a);
	assert_int_equal(acpi_build(&pc, BASE, &a), 0);
	assert_null(memmem(a.buf, a.len, "_E01", 4));
	assert_null(memmem(a.buf, a.len, "SL02", 4));
	aml_free(&a);
}

/* What SRAT and SLIT of pc_numa say. */
static unsigned srat_cpus, srat_ranges, slit_seen;

static void look_at_numa(const uint8_t *t, uint32_t len)
{
	static const struct { uint64_t base, len; uint32_t node, flags; } want[] = {
		{ 0, 0xa0000, 0, 1 }, { MIB, 1023 * MIB, 0, 1 }, { 1024 * MIB, 1792 * MIB, 1, 1 }, { 4096 * MIB, 1280 * MIB, 1, 1 },
		{ 5376 * MIB, 512 * MIB, 2, 1 }, { 1ull << 35, 1ull << 30, 2, 3 },
	};

	if (!memcmp(t, "SLIT", 4)) {
		slit_seen++;
		assert_int_equal(len, 36 + 8 + 9);
		assert_int_equal(ld_le64(t + 36), 3);
		assert_memory_equal(t + 44, ((const uint8_t[]){ 10, 21, 31, 22, 10, 41, 31, 255, 10 }), 9);
	}
	if (memcmp(t, "SRAT", 4))
		return;
	for (uint32_t at = 48; at < len; at += t[at + 1]) {
		if (t[at] == 0) {
			assert_int_equal(t[at + 2], pc_numa.numa.cpu_node[t[at + 3]]);
			assert_int_equal(ld_le32(t + at + 4), 1);
			srat_cpus++;
			continue;
		}
		assert_int_equal(t[at], 1);
		assert_true(srat_ranges < ARRAY_LEN(want));
		assert_int_equal(ld_le32(t + at + 2), want[srat_ranges].node);
		assert_int_equal(ld_le64(t + at + 8), want[srat_ranges].base);
		assert_int_equal(ld_le64(t + at + 16), want[srat_ranges].len);
		assert_int_equal(ld_le32(t + at + 28), want[srat_ranges].flags);
		srat_ranges++;
	}
}

static void nodes_have_cpus_and_memory(void **state)
{
	struct acpi_config one = pc;
	struct aml a;

	assert_int_equal(acpi_build(&pc_numa, BASE, &a), 0);
	each_table(&a, look_at_numa);
	assert_int_equal(srat_cpus, 4);
	assert_int_equal(srat_ranges, 6);
	assert_int_equal(slit_seen, 1);
	aml_free(&a);
	/* Memory that may come makes an SRAT, and no SLIT, for a guest without nodes, too. */
	one.numa.memory = 512 * MIB;
	one.memory_to_come[0].base = 1ull << 35;
	one.memory_to_come[0].size = 1ull << 30;
	one.n_memory_to_come = 1;
	assert_int_equal(acpi_build(&one, BASE, &a), 0);
	assert_non_null(memmem(a.buf, a.len, "SRAT", 4));
	assert_null(memmem(a.buf, a.len, "SLIT", 4));
	aml_free(&a);
}

static void smbios_is_well_formed(void **state)
{
	static const uint8_t uuid[16] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88 };
	const struct smbios_config c = {
		.machine = "pc", .name = "vm", .uuid = uuid, .sockets = 4, .cores = 8, .threads = 16,
		.mem_low = 3ull << 30, .mem_high = 100ull << 30,
	};
	unsigned seen = 0, n = 0, sockets = 0;
	struct aml a;
	size_t pos;

	assert_int_equal(smbios_build(&c, 0xf0000, &a), 0);
	assert_memory_equal(a.buf, "_SM3_", 5);
	assert_int_equal(sum(a.buf, 24), 0);
	assert_int_equal(sum(a.buf + 32, 31), 0);
	assert_int_equal(sum(a.buf + 48, 15), 0);
	assert_true(a.len < 0x10000);
	pos = ld_le64(a.buf + 16) - 0xf0000;
	for (;; n++) {
		uint8_t type = a.buf[pos], len = a.buf[pos + 1];

		assert_true(pos + len + 2u <= a.len);
		if (type == 1) {
			assert_int_equal(len, 27);
			assert_int_equal(ld_le32(a.buf + pos + 8), 0x11223344);
			assert_int_equal(ld_le16(a.buf + pos + 12), 0x5566);
		}
		if (type == 4) {
			sockets++;
			assert_int_equal(len, 48);
			assert_int_equal(a.buf[pos + 0x23], 8);
			assert_int_equal(a.buf[pos + 0x25], 16);
		}
		if (type == 17)
			assert_int_equal(len, 40);
		seen |= type < 32 ? 1u << type : 0;
		pos += len;
		while (a.buf[pos] || a.buf[pos + 1])
			pos++;
		pos += 2;
		if (type == 127)
			break;
	}
	assert_int_equal(pos, a.len);
	assert_int_equal(sockets, 4);
	assert_int_equal(n + 1, ld_le16(a.buf + 32 + 28));
	assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 16 | 1u << 17 | 1u << 19);
	aml_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_well_formed),
		cmocka_unit_test(iasl_accepts_them), cmocka_unit_test(madt_knows_absent_cpus), cmocka_unit_test(slots_come_and_go),
		cmocka_unit_test(nodes_have_cpus_and_memory),
		cmocka_unit_test(smbios_is_well_formed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
