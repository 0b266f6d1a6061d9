/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS volumes between Lodge, cryptsetup and qemu-img, in every direction that
 * works without the host's device mapper: headers and keys of both versions with
 * both programs; contents of version 1 with qemu-img; contents of version 2 by
 * having cryptsetup turn volumes of one version into the other, and encrypt and
 * decrypt files in place.
 */
#include "luks_test.h"

#include "../../block/patient.h"

#define SIZE (1u << 20)

static char log_path[80];

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *fmt, ...)
{
	char cmd[1024], all[1400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	/* Without its locks cryptsetup needs no folder of root's. */
	snprintf(all, sizeof(all), "cd '%s' && { %s; } >>log 2>&1 </dev/null", dir, cmd);
	return system(all);
}

static void must(int status, const char *what)
{
	char cmd[160];

	if (!status)
		return;
	snprintf(cmd, sizeof(cmd), "tail -5 '%s' >&2", log_path);
	if (system(cmd))
		print_message("no log\n");
	fail_msg("%s: status %d", what, status);
}

static void need(bool cryptsetup, bool qemu)
{
	static int have[2] = { -1, -1 };

	if (have[0] < 0) {
		have[0] = system("cryptsetup --version >/dev/null 2>&1") == 0;
		have[1] = system("qemu-img --version >/dev/null 2>&1") == 0;
	}
	if ((cryptsetup && !have[0]) || (qemu && !have[1])) {
		print_message("[  SKIPPED ] no %s here\n", cryptsetup && !have[0] ? "cryptsetup" : "qemu-img");
		skip();
	}
}

static void pattern(uint8_t *p, unsigned seed)
{
	for (size_t i = 0; i < SIZE; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void make_here(const char *name, const struct luks_create_opts *o)
{
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e = { 0 };

	assert_int_equal(blk_create_file(in_dir(name), true, &e), 0);
	assert_int_equal(blk_open_file(loop, in_dir(name), &fo, &file, &e), 0);
	if (luks_create(file, o, (const uint8_t *)"secret", 6, &e))
		fail_msg("%s", e.msg);
	blk_close(file);
}

static struct blk_node *open_here(const char *name)
{
	struct blk_image_opts io = with_key(key_good);
	struct blk_node *n;
	struct err e = { 0 };

	io.format = "luks";
	if (blk_open_image(loop, in_dir(name), &io, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static void write_here(const char *name, unsigned seed)
{
	struct blk_node *n = open_here(name);
	uint8_t *buf = malloc(SIZE);

	assert_non_null(buf);
	pattern(buf, seed);
	assert_true(n->i.size >= SIZE);
	assert_int_equal(blk_pwrite(n, 0, buf, SIZE), 0);
	blk_close(n);
	free(buf);
}

static void check_here(const char *name, unsigned seed)
{
	struct blk_node *n = open_here(name);
	uint8_t *want = malloc(SIZE), *got = malloc(SIZE);

	assert_true(want && got && n->i.size >= SIZE);
	pattern(want, seed);
	assert_int_equal(blk_pread(n, 0, got, SIZE), 0);
	assert_memory_equal(want, got, SIZE);
	blk_close(n);
	free(want);
	free(got);
}

static void write_there(const char *name, unsigned seed)
{
	uint8_t *buf = malloc(SIZE);

	assert_non_null(buf);
	pattern(buf, seed);
	put_file(in_dir("plain"), buf, SIZE);
	free(buf);
	must(run("qemu-img convert -n --object secret,id=s,file=good -f raw plain --target-image-opts "
		 "driver=luks,key-secret=s,file.filename=%s", name), "qemu-img convert");
}

static void check_there(const char *name, unsigned seed)
{
	uint8_t *buf = malloc(SIZE);

	assert_non_null(buf);
	pattern(buf, seed);
	put_file(in_dir("plain"), buf, SIZE);
	free(buf);
	must(run("qemu-img convert --object secret,id=s,file=good --image-opts driver=luks,key-secret=s,file.filename=%s "
		 "-O raw got && head -c %u got | cmp - plain", name, SIZE), "qemu-img convert and cmp");
}

static void luks1_to_and_fro(void **state)
{
	static const char *const cipher[] = { "aes-xts-plain64", "aes-cbc-essiv:sha256", "aes-cbc-plain64" };
	static const char *const alg[] = { "cipher-mode=xts,ivgen-alg=plain64", "cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256",
					   "cipher-mode=cbc,ivgen-alg=plain64" };
	static const char *const hash[] = { "sha1", "sha256", "sha512" };
	static const unsigned bits[] = { 512, 256, 128 };

	need(false, true);
	for (unsigned i = 0; i < 9; i++) {
		const char *mode = cipher[i / 3];
		unsigned key = i / 3 ? MIN(bits[i % 3], 256u) : MAX(bits[i % 3], 256u);
		const struct luks_create_opts o = { .size = SIZE + i * 512, .cipher = mode, .hash = hash[i % 3], .key_bits = key,
						    .force_iterations = 1000 + i };

		make_here("ours", &o);
		write_here("ours", i);
		check_there("ours", i);
		write_there("ours", i + 100);
		check_here("ours", i + 100);
		/* It measures for seconds. */
		if (i % 5)
			continue;
		must(run(PATIENTLY("qemu-img create -q --object secret,id=s,file=good -f luks -o "
				   "key-secret=s,iter-time=10,cipher-alg=aes-%u,%s,hash-alg=%s theirs %u"),
			 i / 3 ? key : key / 2, alg[i / 3], hash[i % 3], SIZE), "qemu-img create");
		write_there("theirs", i + 200);
		check_here("theirs", i + 200);
	}
}

static void cryptsetup_opens_ours(void **state)
{
	struct luks_create_opts o[] = { cheap(1, SIZE), cheap(2, SIZE), cheap(2, SIZE), cheap(2, SIZE), cheap(2, SIZE) };

	need(true, false);
	o[1].label = "lodge";
	o[2].kdf = "argon2i";
	o[2].sector_size = 4096;
	o[3].kdf = "pbkdf2";
	o[3].force_iterations = 1000;
	o[3].hash = "sha512";
	o[4].cipher = "aes-cbc-essiv:sha256";
	o[4].sector_size = 1024;
	for (unsigned i = 0; i < ARRAY_LEN(o); i++) {
		make_here("ours", &o[i]);
		must(run("cryptsetup --disable-locks luksDump ours"), "luksDump");
		must(run("cryptsetup --disable-locks open --test-passphrase --key-file good ours"), "open");
		assert_int_not_equal(run("cryptsetup --disable-locks open --test-passphrase --key-file wrong ours"), 0);
	}
	must(run("grep -q 'Label:.*lodge' log"), "the label");
}

static void we_open_cryptsetups(void **state)
{
	static const char *const opts[] = {
		"--type luks1 --pbkdf-force-iterations 1000", "--type luks1 --pbkdf-force-iterations 1000 -c aes-cbc-essiv:sha256 -s 256 -h sha1",
		"--type luks2 --pbkdf-memory 16384 --pbkdf-force-iterations 4",
		"--type luks2 --pbkdf argon2i --pbkdf-memory 4096 --pbkdf-parallel 1 --pbkdf-force-iterations 5 --sector-size 512",
		"--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --sector-size 2048 -h sha512 -s 256",
		"--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 64k --luks2-keyslots-size 512k --label x",
	};

	need(true, false);
	for (unsigned i = 0; i < ARRAY_LEN(opts); i++) {
		must(run("rm -f theirs; truncate -s 20M theirs && cryptsetup --disable-locks luksFormat -q %s --key-file wrong theirs && "
			 "cryptsetup --disable-locks luksAddKey -q --pbkdf-force-iterations %u %s --key-file wrong theirs good",
			 opts[i], i < 2 || i > 3 ? 1000 : 4, i < 2 ? "" : i > 3 ? "--pbkdf pbkdf2" : "--pbkdf-memory 4096"), opts[i]);
		write_here("theirs", i);
		check_here("theirs", i);
		if (i == 2) {
			/* Its first header gone, the second one tells all; and cryptsetup repairs what we left alone. */
			must(run("dd if=/dev/zero of=theirs bs=4096 count=1 conv=notrunc"), "dd");
			check_here("theirs", i);
			must(run("cryptsetup --disable-locks open --test-passphrase --key-file good theirs"), "open");
		}
		must(run("cryptsetup --disable-locks luksKillSlot -q --key-file wrong theirs 1"), "luksKillSlot");
	}
}

static void contents_of_luks2(void **state)
{
	struct luks_create_opts o = cheap(2, 2 * SIZE);

	need(true, true);
	/* qemu-img writes version 1, cryptsetup makes it version 2. */
	must(run("rm -f theirs; truncate -s 8M theirs && cryptsetup --disable-locks luksFormat -q --type luks1 --pbkdf-force-iterations 1000 "
		 "--key-file good theirs"), "luksFormat");
	write_there("theirs", 1);
	must(run("cryptsetup --disable-locks convert -q --type luks2 theirs"), "convert to luks2");
	check_here("theirs", 1);
	/* We write version 2, cryptsetup makes it version 1, qemu-img reads. */
	o.kdf = "pbkdf2";
	o.force_iterations = 1000;
	make_here("ours", &o);
	write_here("ours", 2);
	must(run("cryptsetup --disable-locks convert -q --type luks1 ours"), "convert to luks1");
	check_there("ours", 2);
	check_here("ours", 2);
}

/* cryptsetup encrypts a file in place, and decrypts what we encrypted, without the device mapper. */
static void contents_by_reencryption(void **state)
{
	struct luks_create_opts o = cheap(2, SIZE);
	uint8_t *buf = malloc(SIZE);

	need(true, false);
	assert_non_null(buf);
	pattern(buf, 7);
	put_file(in_dir("theirs"), buf, SIZE);
	put_file(in_dir("plain"), buf, SIZE);
	if (run("truncate -s 33M theirs && cryptsetup --disable-locks reencrypt --encrypt --type luks2 --reduce-device-size 32M "
		"--sector-size 4096 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 -q --key-file good theirs")) {
		print_message("[  SKIPPED ] cryptsetup cannot encrypt a file in place here\n");
		free(buf);
		skip();
	}
	check_here("theirs", 7);
	o.sector_size = 4096;
	make_here("ours", &o);
	write_here("ours", 7);
	must(run("cryptsetup --disable-locks reencrypt --decrypt --force-offline-reencrypt -q --key-file good --header head ours"),
	     "reencrypt --decrypt");
	must(run("cmp -n %u ours plain", SIZE), "cmp");
	free(buf);
}

static int peer_setup(void **state)
{
	int ret = luks_setup(state);

	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	return ret;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(luks1_to_and_fro),
		cmocka_unit_test(cryptsetup_opens_ours),
		cmocka_unit_test(we_open_cryptsetups),
		cmocka_unit_test(contents_of_luks2),
		cmocka_unit_test(contents_by_reencryption),
	};

	return cmocka_run_group_tests(tests, peer_setup, luks_teardown);
}
