/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images of other programs, made by hand: what is read, what is refused and how,
 * and which files they may name.
 */
#include "block_test.h"

#include "base/crc32c.h"
#include "block/foreign/patched.h"
#include "block/image.h"
#include "../../block/foreign_make.h"

static struct loop *loop;
static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void save(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(in_dir(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static int try_open(const char *name, const char *format, enum blk_trust trust, struct blk_node **n, struct err *e)
{
	const struct blk_image_opts o = { .format = format, .trust = trust, .file.read_only = true, .cache_bytes = 1 };

	return blk_open_image(loop, in_dir(name), &o, n, e);
}

static void expect(struct blk_node *n, const uint8_t *disk, uint64_t size)
{
	uint8_t *buf = malloc(size);
	struct blk_extent x;

	assert_int_equal(n->i.size, size);
	assert_int_equal(blk_pread(n, 0, buf, size), 0);
	assert_memory_equal(buf, disk, size);
	/* In pieces that begin and end anywhere. */
	for (uint64_t off = 512; off < size; off += 4096 * 3 + 1536) {
		uint64_t len = MIN(size - off, 7168u);

		assert_int_equal(blk_pread(n, off, buf, len), 0);
		assert_memory_equal(buf, disk + off, len);
	}
	for (uint64_t off = 0; off < size; off += x.len) {
		assert_int_equal(blk_block_status(n, off, size - off, false, &x), 0);
		assert_true(x.len && x.len <= size - off);
		for (uint64_t i = 0; i < x.len && x.zero; i++)
			assert_int_equal(disk[off + i], 0);
	}
	free(buf);
}

static void opens_as(const char *name, const char *format, const struct made *m)
{
	struct blk_node *n;
	struct err e = { 0 };

	save(name, m->file, m->len);
	if (try_open(name, format, BLK_TRUST_FOLDER, &n, &e))
		fail_msg("%s", e.msg);
	expect(n, m->disk, m->size);
	blk_close(n);
}

/* Not opened, and the message has `word`. */
static void refused(const char *name, const char *format, const struct made *m, const char *word)
{
	struct blk_node *n;
	struct err e = { 0 };

	if (m)
		save(name, m->file, m->len);
	if (!try_open(name, format, BLK_TRUST_FOLDER, &n, &e))
		fail_msg("%s opens", name);
	if (!strstr(e.msg, word))
		fail_msg("'%s' is not in: %s", word, e.msg);
}

static void vdi_images(void **state)
{
	struct made m;

	made_init(&m);
	make_vdi(&m);
	opens_as("a.vdi", NULL, &m);
	m.file[0x4c] = 4;
	refused("b.vdi", NULL, &m, "clonemedium");
	m.file[0x4c] = 1;
	m.file[0x179] = 0x11;
	refused("b.vdi", NULL, &m, "block size");
	m.file[0x179] = 0x10;
	m.file[0x17c] = 1;
	refused("b.vdi", NULL, &m, "extra data");
	m.file[0x17c] = 0;
	st_le32(m.file + 0x180, 0x10000000);
	refused("b.vdi", NULL, &m, "block map");
	made_fini(&m);
}

/* Where a map points outside, the rest can be read still. */
static void damage_is_an_error(void **state)
{
	uint8_t buf[512];
	struct blk_node *n;
	struct made m;
	struct err e;

	made_init(&m);
	make_vdi(&m);
	st_le32(m.file + 512, 0x1000);
	save("c.vdi", m.file, m.len);
	assert_int_equal(try_open("c.vdi", NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	assert_int_equal(blk_pread(n, 0, buf, 512), -EIO);
	assert_int_equal(blk_pread(n, 3 * 4096, buf, 512), 0);
	assert_memory_equal(buf, m.disk + 3 * 4096, 512);
	blk_close(n);
	made_fini(&m);
}

static void vpc_images(void **state)
{
	struct made m;

	made_init(&m);
	make_vpc(&m, false);
	opens_as("a.vhd", NULL, &m);
	/* The footer is damaged, its copy in front is not. */
	m.file[m.len - 100] ^= 1;
	opens_as("a.vhd", NULL, &m);
	m.file[100] ^= 1;
	refused("b.vhd", NULL, &m, "checksum");
	made_fini(&m);
	made_init(&m);
	make_vpc(&m, true);
	opens_as("c.vhd", "vpc", &m);
	made_fini(&m);
}

static void vmdk_images(void **state)
{
	static const unsigned how[] = {
		0, VMDK_MAKE_SECOND, VMDK_MAKE_ZEROED, VMDK_MAKE_V3, VMDK_MAKE_PACKED, VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER,
		VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER | VMDK_MAKE_V3 | VMDK_MAKE_ZEROED,
	};
	struct made m;

	for (unsigned i = 0; i < ARRAY_LEN(how); i++) {
		made_init(&m);
		make_vmdk(&m, how[i], 1, 0xffffffff, NULL);
		opens_as("a.vmdk", NULL, &m);
		m.file[4] = 4;
		if (!(how[i] & VMDK_MAKE_FOOTER))
			refused("b.vmdk", NULL, &m, "version");
		made_fini(&m);
	}
	made_init(&m);
	make_vmdk(&m, VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER, 1, 0xffffffff, NULL);
	m.len -= 1024;
	refused("b.vmdk", NULL, &m, "its end is missing");
	made_fini(&m);
	made_init(&m);
	make_vmdk(&m, 0, 1, 0xffffffff, NULL);
	m.file[75] = '\n';
	refused("b.vmdk", NULL, &m, "transfer as text");
	made_fini(&m);
}

/* A disk of a sparse extent, zeros, a flat one at an offset, and an ESX one. */
static void vmdk_extents(void **state)
{
	struct made sparse, cowd, bare;
	uint8_t *disk, *flat = calloc(1, 8192);
	const uint64_t one = 600 * 4096ull, size = 2 * one + 3072;
	char text[512];
	struct blk_node *n;
	struct err e;

	made_init(&sparse);
	made_init(&cowd);
	made_init(&bare);
	make_vmdk(&sparse, VMDK_MAKE_BARE, 1, 0, NULL);
	make_cowd(&cowd);
	memset(flat + 512, 0x33, 1024);
	save("d-s001.vmdk", sparse.file, sparse.len);
	save("d-flat.vmdk", flat, 2048);
	save("d-cow.vmdk", cowd.file, cowd.len);
	snprintf(text, sizeof(text), "# Disk DescriptorFile\r\nversion=1\r\nCID=1\r\nparentCID=ffffffff\r\ncreateType=\"custom\"\r\n\r\n"
		 "RW 4800 SPARSE \"d-s001.vmdk\"\r\nRW 2 ZERO\r\nRDONLY 4 FLAT \"d-flat.vmdk\" 0\r\nRW 4800 VMFSSPARSE \"d-cow.vmdk\"\r\n"
		 "ddb.geometry.heads = \"16\"\r\n");
	save("d.vmdk", text, strlen(text));
	disk = calloc(1, size);
	memcpy(disk, sparse.disk, one);
	memcpy(disk + one + 1024, flat, 2048);
	memcpy(disk + one + 3072, cowd.disk, one);
	assert_int_equal(try_open("d.vmdk", NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	expect(n, disk, size);
	blk_close(n);
	/* Extents are files that the image names. */
	assert_int_equal(try_open("d.vmdk", NULL, BLK_TRUST_NONE, &n, &e), -EACCES);
	refused("d-s001.vmdk", NULL, NULL, "descriptor");
	refused("d-cow.vmdk", NULL, NULL, "descriptor");
	save("d-flat.vmdk", flat, 1536);
	refused("d.vmdk", NULL, NULL, "shorter");
	unlink(in_dir("d-flat.vmdk"));
	refused("d.vmdk", NULL, NULL, "d-flat.vmdk");
	made_fini(&sparse);
	made_fini(&cowd);
	made_fini(&bare);
	free(disk);
	free(flat);
}

static void descriptor_refused(const char *extents, const char *word)
{
	char text[512];

	snprintf(text, sizeof(text), "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n%s\n", extents);
	save("e.vmdk", text, strlen(text));
	refused("e.vmdk", NULL, NULL, word);
}

static void vmdk_descriptors(void **state)
{
	descriptor_refused("", "no extent");
	descriptor_refused("RW 10 FLAT \"/etc/passwd\" 0", "outside its own folder");
	descriptor_refused("RW 10 FLAT \"../x\" 0", "../x");
	descriptor_refused("RW 10 FLAT \"nbd://host/x\" 0", "nbd://host/x");
	descriptor_refused("RW 10 VMFSRDM \"x\"", "VMFSRDM");
	descriptor_refused("NOACCESS 10 FLAT \"x\" 0", "must not be read");
	descriptor_refused("RW -1 ZERO", "size");
	descriptor_refused("RW 99999999999999999999 ZERO", "size");
	descriptor_refused("RW 0 ZERO", "size");
	descriptor_refused("RW 18014398509481983 ZERO\nRW 18014398509481983 ZERO", "size");
	descriptor_refused("RW 10 FLAT", "without a file");
	descriptor_refused("version=9", "version");
}

static void vmdk_parents(void **state)
{
	struct made base, top, other;
	struct blk_node *n;
	struct err e = { 0 };

	made_init(&base);
	made_init(&top);
	make_vmdk(&base, VMDK_MAKE_PACKED, 0x1234, 0xffffffff, NULL);
	save("base.vmdk", base.file, base.len);
	make_vmdk(&top, VMDK_MAKE_ZEROED, 0x77, 0x1234, "base.vmdk");
	for (uint64_t i = 0; i < top.size; i += 4096) {
		uint32_t entry = ld_le32(top.file + 8192 + i / 4096 * 4);

		if (!entry)
			memcpy(top.disk + i, base.disk + i, 4096);
	}
	opens_as("top.vmdk", NULL, &top);
	assert_int_equal(try_open("top.vmdk", NULL, BLK_TRUST_NONE, &n, &e), -EACCES);
	made_init(&other);
	make_vmdk(&other, 0, 0x1235, 0xffffffff, NULL);
	save("base.vmdk", other.file, other.len);
	refused("top.vmdk", NULL, NULL, "changed since");
	made_fini(&base);
	made_fini(&top);
	made_fini(&other);
}

static void vhdx_images(void **state)
{
	struct made m;

	made_init(&m);
	make_vhdx(&m, VHDX_MAKE_CLEAN);
	opens_as("a.vhdx", NULL, &m);
	/* One header, one region table are enough. */
	m.file[65536 + 70] ^= 1;
	m.file[196608 + 70] ^= 1;
	opens_as("a.vhdx", NULL, &m);
	m.file[131072 + 70] ^= 1;
	refused("b.vhdx", NULL, &m, "headers");
	m.file[131072 + 70] ^= 1;
	m.file[262144 + 70] ^= 1;
	refused("b.vhdx", NULL, &m, "region tables");
	made_fini(&m);
}

static void vhdx_log_is_taken_into_account(void **state)
{
	struct made m;
	struct stat before, after;
	uint8_t *again;
	FILE *f;

	made_init(&m);
	make_vhdx(&m, VHDX_MAKE_DIRTY);
	opens_as("a.vhdx", NULL, &m);
	/* Nothing was written. */
	assert_int_equal(stat(in_dir("a.vhdx"), &before), 0);
	opens_as("a.vhdx", NULL, &m);
	assert_int_equal(stat(in_dir("a.vhdx"), &after), 0);
	f = fopen(in_dir("a.vhdx"), "r");
	again = malloc(m.len);
	assert_int_equal(fread(again, 1, m.len, f), m.len);
	fclose(f);
	assert_memory_equal(again, m.file, m.len);
	free(again);
	made_fini(&m);
	made_init(&m);
	make_vhdx(&m, VHDX_MAKE_WRAPPED);
	opens_as("a.vhdx", NULL, &m);
	/* No entry is whole: that is not the image as it was. */
	for (unsigned i = 0; i < VHDX_LOG_LEN; i += 4096)
		m.file[VHDX_LOG_AT + i + 20] ^= 0x55;
	refused("b.vhdx", NULL, &m, "log is damaged");
	memset(m.file + VHDX_LOG_AT, 0, VHDX_LOG_LEN);
	save("b.vhdx", m.file, m.len);
	made_fini(&m);
}

static void vhdx_short_file_is_noticed(void **state)
{
	struct made m;

	made_init(&m);
	make_vhdx(&m, VHDX_MAKE_DIRTY);
	m.len -= 4096;
	refused("b.vhdx", NULL, &m, "shorter than its log says");
	st_le32(m.file + 65536 + 68, 0x8000000);
	vhdx_sums(m.file, m.len);
	refused("b.vhdx", NULL, &m, "longer than is read here");
	made_fini(&m);
}

static void vhdx_differences(void **state)
{
	struct made base, top;
	struct blk_node *n;
	struct err e = { 0 };

	made_init(&base);
	made_init(&top);
	make_vhdx(&base, VHDX_MAKE_CLEAN);
	make_vhdx(&top, VHDX_MAKE_CHILD);
	save("parent.vhdx", base.file, base.len);
	opens_as("child.vhdx", NULL, &top);
	assert_int_equal(try_open("child.vhdx", NULL, BLK_TRUST_NONE, &n, &e), -EACCES);
	base.file[65536 + 33] ^= 1;
	vhdx_sums(base.file, base.len);
	save("parent.vhdx", base.file, base.len);
	refused("child.vhdx", NULL, NULL, "changed since");
	unlink(in_dir("parent.vhdx"));
	refused("child.vhdx", NULL, NULL, "parent.vhdx");
	made_fini(&base);
	made_fini(&top);
}

static void writing_is_refused_with_the_cure(void **state)
{
	const struct blk_image_opts o = { 0 };
	struct blk_node *n;
	struct made m;
	struct err e = { 0 };

	made_init(&m);
	make_vdi(&m);
	save("w.vdi", m.file, m.len);
	assert_int_equal(blk_open_image(loop, in_dir("w.vdi"), &o, &n, &e), -EROFS);
	assert_non_null(strstr(e.msg, "lodge img convert"));
	assert_int_equal(try_open("w.vdi", NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	assert_int_equal(blk_pwrite(n, 0, m.disk, 512), -EROFS);
	assert_int_equal(blk_flush(n), 0);
	blk_close(n);
	refused("w.vdi", "vmdk", NULL, "not a vmdk");
	refused("w.vdi", "vhdx", NULL, "not a vhdx");
	refused("w.vdi", "qed", NULL, "convert it first");
	refused("w.vdi", "dmg", NULL, "convert it first");
	made_fini(&m);
}

static void crc32c_is_right(void **state)
{
	uint8_t zeros[32] = { 0 };

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	/* RFC 3720, B.4 */
	assert_int_equal(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa);
}

/* Random patches against a flat copy. */
static void patches_cover_each_other(void **state)
{
	static uint8_t flat[64 * 512], data[64][64 * 512], buf[64 * 512];
	uint32_t seed = 1;

	for (unsigned round = 0; round < 200; round++) {
		struct patch *p = calloc(64, sizeof(*p));
		struct blk_node *under, *n;
		size_t count = round % 20;

		assert_int_equal(blk_open_mem(loop, sizeof(flat), &under), 0);
		memset(blk_mem_data(under), 0xee, sizeof(flat));
		memset(flat, 0xee, sizeof(flat));
		for (size_t i = 0; i < count; i++) {
			unsigned at = (seed = seed * 1103515245 + 12345) >> 16 & 63, len = 1 + ((seed >> 8) % (64 - at));

			for (unsigned k = 0; k < sizeof(data[i]); k++)
				data[i][k] = (uint8_t)(i * 7 + k / 512);
			p[i] = (struct patch){ at * 512, len * 512, i % 3 ? data[i] : NULL };
			if (i % 3)
				memcpy(flat + at * 512, data[i], len * 512);
			else
				memset(flat + at * 512, 0, len * 512);
		}
		assert_int_equal(patches_settle(&p, &count), 0);
		for (size_t i = 1; i < count; i++)
			assert_true(p[i - 1].off + p[i - 1].len <= p[i].off);
		assert_int_equal(patched_open(under, p, count, NULL, 0, &n), 0);
		assert_int_equal(blk_pread(n, 0, buf, sizeof(buf)), 0);
		assert_memory_equal(buf, flat, sizeof(flat));
		assert_int_equal(blk_pread(n, 5 * 512, buf, 20 * 512), 0);
		assert_memory_equal(buf, flat + 5 * 512, 20 * 512);
		blk_close(n);
		blk_close(under);
	}
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/lodge-foreign-XXXXXX");
	return !mkdtemp(dir) || loop_new(&loop);
}

static int teardown(void **state)
{
	char cmd[100];

	loop_free(loop);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c_is_right),
		cmocka_unit_test(patches_cover_each_other),
		cmocka_unit_test(vdi_images),
		cmocka_unit_test(damage_is_an_error),
		cmocka_unit_test(vpc_images),
		cmocka_unit_test(vmdk_images),
		cmocka_unit_test(vmdk_extents),
		cmocka_unit_test(vmdk_descriptors),
		cmocka_unit_test(vmdk_parents),
		cmocka_unit_test(vhdx_images),
		cmocka_unit_test(vhdx_log_is_taken_into_account),
		cmocka_unit_test(vhdx_short_file_is_noticed),
		cmocka_unit_test(vhdx_differences),
		cmocka_unit_test(writing_is_refused_with_the_cure),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
