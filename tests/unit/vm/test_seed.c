/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of cloud-init's disk: the descriptors say what ECMA-119 and Joliet have them say, both folders lead to the
 * files' bytes, the texts are what was asked for, and what cannot be is refused by name.
 */
#include "../unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "vm/iso9660.h"
#include "vm/seed.h"

static uint32_t le32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static uint32_t be32(const uint8_t *p) { return p[3] | p[2] << 8 | p[1] << 16 | (uint32_t)p[0] << 24; }

/* The contents of a file by its Joliet name, and that the short one leads to the same. */
static const uint8_t *find(const uint8_t *iso, size_t len, const char *name, uint32_t *size)
{
	const uint8_t *dir[2], *found[2] = { 0 };

	for (unsigned j = 0; j < 2; j++) {
		const uint8_t *d = iso + (16 + j) * 2048;
		unsigned nth = 0, want = 0;

		assert_int_equal(d[0], j + 1);
		assert_memory_equal(d + 1, "CD001\1", 6);
		assert_int_equal(le32(d + 80), len / 2048);
		assert_int_equal(be32(d + 84), len / 2048);
		assert_int_equal(le32(d + 158), be32(d + 162));
		assert_int_equal(le32(iso + le32(d + 140) * 2048 + 2), le32(d + 158));
		assert_int_equal(be32(iso + be32(d + 148) * 2048 + 2), le32(d + 158));
		dir[j] = iso + le32(d + 158) * 2048;
		for (const uint8_t *r = dir[j]; *r; r += *r, nth++) {
			char text[64] = "";

			assert_int_equal(*r % 2, 0);
			for (unsigned i = 0; j && i < r[32] / 2u; i++)
				text[i] = (char)r[33 + 2 * i + 1];
			if (j && !strncmp(text, name, strlen(name)) && !strcmp(text + strlen(name), ";1"))
				want = nth;
		}
		if (j) {
			assert_true(want > 1);
			for (unsigned k = 0; k < 2; k++) {
				const uint8_t *r = dir[k];

				for (unsigned i = 0; i < want; i++)
					r += *r;
				assert_int_equal(le32(r + 10), be32(r + 14));
				*size = le32(r + 10);
				found[k] = iso + le32(r + 2) * 2048;
				assert_true(found[k] + *size <= iso + len);
			}
		}
	}
	assert_ptr_equal(found[0], found[1]);
	return found[0];
}

static void image(void **state)
{
	const struct iso9660_file f[] = {
		{ "empty-file", "EMPTY_FI", "", 0 }, { "of exactly a sector", "OF_EXACT", NULL, 2048 }, { "user-data", "USER_DAT", "hello\n", 6 },
	};
	uint8_t block[2048];
	struct iso9660_file g[3];
	size_t len, again;
	uint32_t size;
	uint8_t *iso, *same;

	memset(block, 0x5a, sizeof(block));
	memcpy(g, f, sizeof(g));
	g[1].data = block;
	iso = iso9660_make("cidata", g, 3, &len);
	same = iso9660_make("cidata", g, 3, &again);
	assert_non_null(iso);
	assert_int_equal(len, (25 + 2) * 2048);
	assert_int_equal(len, again);
	assert_memory_equal(iso, same, len);
	assert_memory_equal(iso + 16 * 2048 + 40, "cidata          ", 16);
	assert_memory_equal(find(iso, len, "user-data", &size), "hello\n", 6);
	assert_int_equal(size, 6);
	assert_memory_equal(find(iso, len, "of exactly a sector", &size), block, 2048);
	find(iso, len, "empty-file", &size);
	assert_int_equal(size, 0);
	free(iso);
	free(same);
	g[0].len = SIZE_MAX / 2;
	assert_null(iso9660_make("cidata", g, 3, &len));
	assert_null(iso9660_make("cidata", f, 17, &len));
}

/* As many as there can be, with the longest names, and nothing in them: their folder is as long as its sector. */
static void full(void **state)
{
	struct iso9660_file f[13];
	char name[13][62];
	uint32_t size;
	uint8_t *iso;
	size_t len;

	for (unsigned i = 0; i < ARRAY_LEN(f); i++) {
		snprintf(name[i], sizeof(name[i]), "%060u", i);
		f[i] = (struct iso9660_file){ name[i], "SHORT", "", 0 };
	}
	iso = iso9660_make("cidata", f, 12, &len);
	assert_non_null(iso);
	for (unsigned i = 0; i < 12; i++)
		find(iso, len, name[i], &size);
	free(iso);
	assert_null(iso9660_make("cidata", f, 13, &len));
	strcat(name[0], "x");
	assert_null(iso9660_make("cidata", f, 1, &len));
}

static char dir[] = "/tmp/lodge-seed-XXXXXX";

static const char *file(const char *name, const char *text)
{
	static char path[8][80];
	static unsigned n;
	FILE *f;

	n = (n + 1) % 8;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	f = fopen(path[n], "w");
	fputs(text, f);
	fclose(f);
	return path[n];
}

static char *text_of(const struct vm_seed *s, const char *name)
{
	struct err e = { .msg = "" };
	struct stat st;
	uint8_t *iso;
	uint32_t size;
	char *text;
	int fd;

	if (vm_seed_make(s, "vm1", &fd, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(fstat(fd, &st), 0);
	iso = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, iso, (size_t)st.st_size, 0), st.st_size);
	assert_true(pwrite(fd, "x", 1, 0) < 0);
	close(fd);
	text = strndup((const char *)find(iso, (size_t)st.st_size, name, &size), 100000);
	text[size] = '\0';
	free(iso);
	return text;
}

static void is(const struct vm_seed *s, const char *name, const char *want)
{
	char *text = text_of(s, name);

	if (strncmp(text, want, strlen(want)))
		fail_msg("%s", text);
	free(text);
}

static void texts(void **state)
{
	struct vm_seed s = { .hostname = "web.example" };
	char *a, *b;

	assert_non_null(mkdtemp(dir));
	is(&s, "meta-data", "local-hostname: \"web.example\"\ninstance-id: \"lodge-");
	is(&s, "user-data", "#cloud-config\n{}\n");
	a = text_of(&s, "meta-data");
	s.user_data = file("user", "#!/bin/sh\necho hello\n");
	is(&s, "user-data", "#!/bin/sh\necho hello\n");
	b = text_of(&s, "meta-data");
	assert_string_not_equal(a, b);		/* another instance */
	free(a);
	free(b);
	s.hostname = NULL;
	s.n_keys = 2;
	s.key[0] = file("a.pub", "# mine\nssh-ed25519 AAAA me \"at\" home\n\nssh-rsa BBBB x\n");
	s.key[1] = file("b.pub", "ssh-rsa CCCC y");
	is(&s, "meta-data", "local-hostname: \"vm1\"\npublic-keys:\n  - \"ssh-ed25519 AAAA me \\\"at\\\" home\"\n  - \"ssh-rsa BBBB x\"\n  - \"ssh-rsa CCCC y\"\ninstance-id");
	s.network_config = file("net", "version: 2\n");
	is(&s, "network-config", "version: 2\n");
	s.n_keys = 0;
	s.meta_data = file("meta", "instance-id: mine\n");
	is(&s, "meta-data", "instance-id: mine\n");
}

static void refusals(void **state)
{
	struct err e = { .msg = "" };
	struct vm_seed s = { .hostname = "no name" };
	int fd;

	assert_false(vm_seed_wanted(&(struct vm_seed){ 0 }));
	assert_true(vm_seed_wanted(&s));
	assert_int_equal(vm_seed_check(&s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "--hostname"));
	s = (struct vm_seed){ .hostname = "a", .meta_data = "m" };
	assert_int_equal(vm_seed_check(&s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "--meta-data"));
	s = (struct vm_seed){ .user_data = "/nonexistent/x" };
	assert_int_equal(vm_seed_make(&s, "g", &fd, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "--user-data: /nonexistent/x: No such file"));
	s = (struct vm_seed){ .key = { file("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n") }, .n_keys = 1 };
	assert_int_equal(vm_seed_make(&s, "g", &fd, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "is a private key"));
	s.key[0] = file("key", "nothing\n");
	assert_int_equal(vm_seed_make(&s, "g", &fd, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "no public key"));
}

static int clean(void **state)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(image), cmocka_unit_test(full), cmocka_unit_test(texts), cmocka_unit_test(refusals) };

	return cmocka_run_group_tests(tests, NULL, clean);
}
