// SPDX-License-Identifier: GPL-2.0-or-later
/* See seed.h. */
#include "vm/seed.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "vm/iso9660.h"

#define FILE_MAX_LEN (8u << 20)
#define MAX_KEY_LEN 16384

struct text {
	char *p;			/* malloc'ed */
	size_t len;
};

bool vm_seed_wanted(const struct vm_seed *s)
{
	return s->user_data || s->meta_data || s->network_config || s->hostname || s->n_keys;
}

static bool is_host_char(char c) { return isalnum((unsigned char)c) || c == '-' || c == '.'; }

int vm_seed_check(const struct vm_seed *s, struct err *e)
{
	if (s->meta_data && (s->hostname || s->n_keys))
		return err_set(e, -EINVAL, "--meta-data: host name and keys are in that file; leave --hostname and --ssh-key out");
	for (const char *p = s->hostname; p && *p; p++)
		if (!is_host_char(*p))
			return err_set(e, -EINVAL, "--hostname: '%.64s' is no host name: letters, digits, - and . are its characters", s->hostname);
	return 0;
}

static int read_file(const char *option, const char *path, size_t max, struct text *t, struct err *e)
{
	FILE *f = fopen(path, "re");
	int ret = 0;

	if (!f)
		return err_set(e, -errno, "%s: %s: %s", option, path, strerror(errno));
	t->p = malloc(max + 1);
	t->len = t->p ? fread(t->p, 1, max + 1, f) : 0;
	if (!t->p)
		ret = err_set(e, -ENOMEM, "out of memory");
	else if (ferror(f))
		ret = err_set(e, -EIO, "%s: %s: %s", option, path, strerror(errno));
	else if (t->len > max)
		ret = err_set(e, -EFBIG, "%s: %s has more than %zu bytes", option, path, max);
	fclose(f);
	return ret;
}

/* Public keys as a YAML list: each line of a file that is one, quoted as JSON is (which YAML reads). */
static int put_keys(FILE *f, const char *path, unsigned *n, struct err *e)
{
	struct text t = { 0 };
	unsigned before = *n;
	char *save = NULL;
	int ret = read_file("--ssh-key", path, MAX_KEY_LEN, &t, e);

	if (!ret) {
		t.p[t.len] = '\0';
		if (strstr(t.p, "PRIVATE KEY"))
			ret = err_set(e, -EINVAL, "--ssh-key: %s is a private key, which guests are not given; the public one is %s.pub", path, path);
	}
	for (char *line = ret ? NULL : strtok_r(t.p, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		if (*line == '#' || !strchr(line, ' '))
			continue;
		fputs((*n)++ ? "" : "public-keys:\n", f);
		fputs("  - \"", f);
		for (; *line; line++)
			if ((unsigned char)*line >= 0x20)
				fprintf(f, "%s%c", *line == '"' || *line == '\\' ? "\\" : "", *line);
		fputs("\"\n", f);
	}
	free(t.p);
	if (!ret && *n == before)
		ret = err_set(e, -EINVAL, "--ssh-key: there is no public key in %s", path);
	return ret;
}

/* FNV-1a: a guest whose seed has changed is another instance to cloud-init, and is set up anew. */
static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

static int make_meta(const struct vm_seed *s, const char *name, const struct text *user, const struct text *net, struct text *out, struct err *e)
{
	uint64_t h = hash(hash(0xcbf29ce484222325, user->p, user->len), net->p ? net->p : "", net->len);
	FILE *f = open_memstream(&out->p, &out->len);
	unsigned keys = 0;
	int ret = 0;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	fputs("local-hostname: \"", f);
	for (const char *p = s->hostname ? s->hostname : name; *p; p++)
		fputc(is_host_char(*p) ? *p : '-', f);	/* --name may have others */
	fputs("\"\n", f);
	for (unsigned i = 0; i < s->n_keys && !ret; i++)
		ret = put_keys(f, s->key[i], &keys, e);
	fflush(f);
	h = hash(h, out->p, out->len);
	fprintf(f, "instance-id: \"lodge-%016" PRIx64 "\"\n", h);
	if (fclose(f) && !ret)
		ret = err_set(e, -ENOMEM, "out of memory");
	return ret;
}

/* The memory is a file that nobody can change any more. */
static int to_fd(const uint8_t *p, size_t len, int *fd, struct err *e)
{
	int f = memfd_create("lodge-cloud-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t done = 0;

	while (f >= 0 && done < len) {
		ssize_t n = write(f, p + done, len - done);

		if (n < 0 && errno != EINTR)
			break;
		done += n > 0 ? (size_t)n : 0;
	}
	if (f < 0 || done < len || fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) {
		int ret = err_set(e, -errno, "cloud-init's disk: %s", strerror(errno));

		if (f >= 0)
			close(f);
		return ret;
	}
	*fd = f;
	return 0;
}

int vm_seed_make(const struct vm_seed *s, const char *name, int *fd, struct err *e)
{
	static const char no_user[] = "#cloud-config\n{}\n";
	struct text user = { 0 }, meta = { 0 }, net = { 0 };
	struct iso9660_file f[3];
	unsigned n = 0;
	uint8_t *iso;
	size_t len;
	int ret = s->user_data ? read_file("--user-data", s->user_data, FILE_MAX_LEN, &user, e) : 0;

	if (!ret && s->network_config)
		ret = read_file("--network-config", s->network_config, FILE_MAX_LEN, &net, e);
	if (!ret && s->meta_data)
		ret = read_file("--meta-data", s->meta_data, FILE_MAX_LEN, &meta, e);
	else if (!ret)
		ret = make_meta(s, name, &user, &net, &meta, e);
	if (!ret) {
		f[n++] = (struct iso9660_file){ "meta-data", "META_DAT", meta.p, meta.len };
		if (s->network_config)
			f[n++] = (struct iso9660_file){ "network-config", "NETWORK_", net.p, net.len };
		f[n++] = (struct iso9660_file){ "user-data", "USER_DAT", user.p ? user.p : no_user, user.p ? user.len : sizeof(no_user) - 1 };
		iso = iso9660_make("cidata", f, n, &len);
		ret = iso ? to_fd(iso, len, fd, e) : err_set(e, -ENOMEM, "out of memory");
		free(iso);
	}
	free(user.p);
	free(meta.p);
	free(net.p);
	return ret;
}
