// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promises of a pc with firmware: the image is where a CPU starts, images that
 * cannot be are refused by name, and what fw_cfg holds makes well-formed tables
 * wherever firmware puts them, with the addresses that firmware chose.
 */
#include "../unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/bits.h"
#include "chipset/fw_cfg.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/layout.h"
#include "platform/x86/platform.h"
#include "pci/pci.h"

#define MIB (1ull << 20)
#define RSDP_AT 0x9f000u	/* any place that is RAM */
#define TABLES_AT 0x200000u

struct fix {
	struct machine *m;
	struct cpu_engine *e;
	struct platform *p;
	struct err err;
	char path[32];
};

static void write_image(struct fix *f, size_t size)
{
	uint8_t *image = calloc(1, size);
	int fd;

	strcpy(f->path, "/tmp/lodge-fw-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	if (size >= 16)
		memcpy(image + size - 16, "\xea\x5b\xe0\x00\xf0", 5);
	assert_int_equal(write(fd, image, size), size);
	close(fd);
	free(image);
}

static struct fix *fix_new(const struct platform_config *cfg, size_t image)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct cpu_engine_config ec = { .n_vcpus = 1 };

	assert_int_equal(machine_new(&f->m, true), 0);
	assert_int_equal(cpu_engine_puppet.init(f->m, &ec, &f->e, &f->err), 0);
	assert_int_equal(cpu_engine_puppet.vcpu_create(f->e, 0, &f->err), 0);
	f->m->n_vcpus = 1;
	assert_int_equal(platform_new(f->m, f->e, cfg, &f->p, &f->err), 0);
	write_image(f, image);
	return f;
}

static void fix_free(struct fix *f)
{
	unlink(f->path);
	machine_free_devs(f->m);
	cpu_engine_puppet.free(f->e);
	machine_free(f->m);
	platform_free(f->p);
	free(f);
}

static void refused(void **state)
{
	struct platform_config pc = { .mem_size = 16 * MIB, .n_vcpus = 1 };
	struct platform_config micro = { .kind = PLATFORM_MICRO, .mem_size = 16 * MIB, .n_vcpus = 1 };
	struct fix *f = fix_new(&pc, 5000);
	struct platform_firmware fw = { .file = f->path };

	assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.msg, f->path));
	assert_non_null(strstr(f->err.msg, "multiple of 4 KiB"));
	unlink(f->path);
	assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), -ENOENT);
	fix_free(f);
	f = fix_new(&micro, 65536);
	fw.file = f->path;
	assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.msg, "micro"));
	assert_int_equal(platform_add_fw_cfg_file(f->p, "opt/x", "", 0, &f->err), -ENODEV);
	fix_free(f);
}

/* A file of UEFI variables, for instance. */
static void nothing_at_the_reset_vector(void **state)
{
	static const uint8_t empty[2][16] = { { 0 }, { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 } };
	struct platform_config c = { .mem_size = 16 * MIB, .n_vcpus = 1 };
	struct fix *f = fix_new(&c, 65536);
	struct platform_firmware fw = { .file = f->path };

	for (unsigned i = 0; i < 2; i++) {
		int fd = open(f->path, O_WRONLY);

		assert_int_equal(pwrite(fd, empty[i], 16, 65536 - 16), 16);
		close(fd);
		assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), -ENOEXEC);
		assert_non_null(strstr(f->err.msg, f->path));
	}
	fix_free(f);
}

static void starts_at_the_reset_vector(void **state)
{
	struct platform_config c = { .mem_size = 16 * MIB, .n_vcpus = 1 };
	struct fix *f = fix_new(&c, 0x40000);
	struct platform_firmware fw = { .file = f->path };
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
	uint8_t b = 0;

	assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(platform_boot(f->p, &f->err), 0);
		assert_int_equal(cpu_engine_puppet.state_get(f->m->vcpus[0], s), 0);
		assert_int_equal(s->seg[X86_CS].base + s->rip, 0xfffffff0);
		assert_int_equal(s->mtrr_def_type, 0);
		assert_int_equal(mem_read(f->m->mem, 0xfffffff0, &b, 1), 0);
		assert_int_equal(b, 0xea);
		assert_int_equal(mem_read(f->m->mem, 0xffff0, &b, 1), 0);
		assert_int_equal(b, 0xea);
		/* Nothing was done that is firmware's to do. */
		assert_int_equal(mem_write(f->m->mem, 0xf0000, &b, 1), -EFAULT);
		/* RAM over the ROM, until the next reset. */
		pci_config_write(pci_find(platform_pci_bus(f->p), 0, 0), 0x90, 1, 0x30);
		assert_int_equal(mem_write(f->m->mem, 0xffff0, "x", 1), 0);
	}
	free(s);
	fix_free(f);
}

/* ---- the table loader, as firmware has it ---- */

struct blob {
	uint8_t data[65536];
	uint32_t len;
	uint32_t at;		/* where it was put */
};

static uint8_t next(struct fix *f)
{
	uint8_t b = 0;

	bus_access(f->m->pio, LAYOUT_PORT_FW_CFG + 1, &b, 1, false);
	return b;
}

static void choose(struct fix *f, uint16_t key)
{
	bus_access(f->m->pio, LAYOUT_PORT_FW_CFG, &key, 2, true);
}

static uint32_t big(struct fix *f, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | next(f);
	return v;
}

static bool read_file(struct fix *f, const char *name, struct blob *b)
{
	uint32_t n;

	choose(f, FW_CFG_FILE_DIR);
	n = big(f, 4);
	while (n--) {
		char this[56];
		uint32_t len = big(f, 4), key = big(f, 2);

		big(f, 2);
		for (unsigned i = 0; i < sizeof(this); i++)
			this[i] = (char)next(f);
		if (strcmp(this, name))
			continue;
		assert_true(len <= sizeof(b->data));
		choose(f, (uint16_t)key);
		for (b->len = 0; b->len < len; b->len++)
			b->data[b->len] = next(f);
		return true;
	}
	return false;
}

static uint8_t sum_of(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

struct loaded {
	struct blob rsdp, tables, script;
};

static struct blob *blob_of(struct loaded *l, const uint8_t *name)
{
	if (!strcmp((const char *)name, "etc/acpi/rsdp"))
		return &l->rsdp;
	assert_string_equal((const char *)name, "etc/acpi/tables");
	return &l->tables;
}

static void run_command(struct loaded *l, const uint8_t *c)
{
	struct blob *b;
	uint32_t off, size;
	uint64_t v;

	switch (ld_le32(c)) {
	case 0:
		break;
	case 1:
		b = blob_of(l, c + 4);
		assert_int_equal(c[64], b == &l->rsdp ? 2 : 1);
		b->at = b == &l->rsdp ? RSDP_AT : TABLES_AT;
		break;
	case 2:
		b = blob_of(l, c + 4);
		off = ld_le32(c + 116);
		size = c[120];
		assert_true((size == 4 || size == 8) && off + size <= b->len);
		v = ld_le(b->data + off, size) + blob_of(l, c + 60)->at;
		assert_true(v < TABLES_AT + l->tables.len);
		st_le(b->data + off, size, v);
		break;
	case 3:
		b = blob_of(l, c + 4);
		off = ld_le32(c + 60);
		assert_true(off < b->len && ld_le32(c + 64) + ld_le32(c + 68) <= b->len);
		assert_int_equal(b->data[off], 0);	/* OVMF does not clear it */
		b->data[off] = (uint8_t)-sum_of(b->data + ld_le32(c + 64), ld_le32(c + 68));
		break;
	default:
		fail_msg("command %u", ld_le32(c));
	}
}

static const uint8_t *table_at(const struct loaded *l, uint64_t at, const char *signature)
{
	const uint8_t *t = l->tables.data + (at - TABLES_AT);

	assert_true(at >= TABLES_AT && at + 36 < TABLES_AT + l->tables.len);
	assert_true(at + ld_le32(t + 4) <= TABLES_AT + l->tables.len);
	if (signature)
		assert_memory_equal(t, signature, 4);
	if (memcmp(t, "FACS", 4))
		assert_int_equal(sum_of(t, ld_le32(t + 4)), 0);
	return t;
}

/* Loads and checks all; returns the MCFG table, or NULL. */
static const uint8_t *load_tables(struct fix *f, struct loaded *l)
{
	const uint8_t *xsdt, *mcfg = NULL, *fadt = NULL;

	assert_true(read_file(f, "etc/table-loader", &l->script));
	assert_true(read_file(f, "etc/acpi/rsdp", &l->rsdp));
	assert_true(read_file(f, "etc/acpi/tables", &l->tables));
	assert_int_equal(l->script.len % 128, 0);
	for (uint32_t at = 0; at < l->script.len; at += 128)
		run_command(l, l->script.data + at);
	assert_memory_equal(l->rsdp.data, "RSD PTR ", 8);
	assert_int_equal(sum_of(l->rsdp.data, 20), 0);
	assert_int_equal(sum_of(l->rsdp.data, 36), 0);
	xsdt = table_at(l, ld_le64(l->rsdp.data + 24), "XSDT");
	for (uint32_t off = 36; off < ld_le32(xsdt + 4); off += 8) {
		const uint8_t *t = table_at(l, ld_le64(xsdt + off), NULL);

		if (!memcmp(t, "MCFG", 4))
			mcfg = t;
		if (!memcmp(t, "FACP", 4))
			fadt = t;
	}
	assert_non_null(fadt);
	table_at(l, ld_le32(fadt + 36), "FACS");
	table_at(l, ld_le32(fadt + 40), "DSDT");
	assert_int_equal(ld_le64(fadt + 140), ld_le32(fadt + 40));
	return mcfg;
}

static void tables(void **state)
{
	struct platform_config c = { .mem_size = 4096 * MIB, .n_vcpus = 1 };
	struct fix *f = fix_new(&c, 65536);
	struct platform_firmware fw = { .file = f->path, .boot_order = "/pci@i0cf8/scsi@3/disk@0,0\n", .fail_wait_ms = -1 };
	struct loaded *l = calloc(1, sizeof(*l));
	struct pci_dev *bridge;
	const uint8_t *mcfg;

	assert_int_equal(platform_add_firmware(f->p, &fw, &f->err), 0);
	assert_int_equal(platform_boot(f->p, &f->err), 0);
	assert_null(load_tables(f, l));		/* no window yet */
	bridge = pci_find(platform_pci_bus(f->p), 0, 0);
	pci_config_write(bridge, 0x64, 4, 0);
	pci_config_write(bridge, 0x60, 4, 0xb0000001);
	mcfg = load_tables(f, l);
	assert_non_null(mcfg);
	assert_int_equal(ld_le64(mcfg + 44), 0xb0000000);
	assert_int_equal(mcfg[55], 255);
	assert_true(read_file(f, "bootorder", &l->script));
	assert_string_equal((char *)l->script.data, fw.boot_order);
	assert_true(read_file(f, "etc/e820", &l->script));
	assert_int_equal(l->script.len, 40);
	assert_int_equal(ld_le64(l->script.data + 8) + ld_le64(l->script.data + 28), 4096 * MIB);
	assert_true(read_file(f, "etc/smbios/smbios-anchor", &l->script));
	assert_memory_equal(l->script.data, "_SM_", 4);
	assert_int_equal(l->script.len, 0x1f);
	assert_true(read_file(f, "etc/boot-fail-wait", &l->script));
	assert_int_equal(ld_le32(l->script.data), 0xffffffff);
	free(l);
	fix_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused), cmocka_unit_test(nothing_at_the_reset_vector), cmocka_unit_test(starts_at_the_reset_vector), cmocka_unit_test(tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
