// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The 9P server: messages of the input's, most of them well-formed with few fids and names so that they meet, on a scratch
 * folder that the "host" changes in between.  Beside the folder lies what nobody may reach: links in the folder lead
 * there, and it must be as it was in the end.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "input.h"
#include "p9/p9.h"
#include "p9/wire.h"

#define MESSAGES 200
#define WAITING 8		/* requests that wait for a lock at a time */

/* f: a fid; n: a name; s: any of the texts; 1, 2, 4, 8: a number; w: names of a walk; d: data with a length; g: small number */
static const struct {
	uint8_t type;
	const char *fields;
} forms[] = {
	{ TATTACH, "ffssg" }, { TWALK, "ffw" }, { TWALK, "ffw" }, { TCLUNK, "f" }, { TREMOVE, "f" }, { TLOPEN, "f4" }, { TLOPEN, "fg" }, { TLCREATE, "fn44g" },
	{ TLCREATE, "fngg" "g" }, { TMKDIR, "fn4g" }, { TMKNOD, "fn4ggg" }, { TSYMLINK, "fnsg" }, { TLINK, "ffn" }, { TRENAME, "ffn" }, { TRENAMEAT, "fnfn" },
	{ TUNLINKAT, "fnu" }, { TREAD, "f84" }, { TREAD, "fgg" }, { TWRITE, "f8d" }, { TWRITE, "fGd" }, { TREADDIR, "f84" }, { TREADDIR, "fG4" },
	{ TFSYNC, "fg" }, { TSTATFS, "f" }, { TREADLINK, "f" }, { TGETATTR, "f8" }, { TSETATTR, "fa4gg888" "88" }, { TSETATTR, "fa4ggG88" "88" },
	{ TXATTRWALK, "ffx" }, { TXATTRCREATE, "fxGg" }, { TLOCK, "f1gGGgs" }, { TLOCK, "fktGGgs" }, { TGETLOCK, "f1GGgs" }, { TFLUSH, "t2" }, { TVERSION, "4v" },
};
static const char *const names[] = { "a", "b", "c", "d", "link", "out", "fifo", "file", "sub", ".virtfs_metadata", ".virtfs_metadata_root", "..", ".", "a/b" };
static const char *const texts[] = { "", "a", "../outside", "/etc", "guest", "..", "sub/file" };
static const char *const xattrs[] = { "", "user.a", "user.virtfs.uid", "system.posix_acl_access", "security.selinux", "user.b" };

static uint8_t *p;
static uint8_t msg[8192], out[16384];

static void number(struct fuzz_input *in, unsigned len, uint64_t v)
{
	st_le(p, len, v);
	p += len;
}

static void text(const char *s)
{
	size_t len = strlen(s);

	st_le16(p, (uint16_t)len);
	memcpy(p + 2, s, len);
	p += 2 + len;
}

static void field(struct fuzz_input *in, char kind)
{
	unsigned n;

	switch (kind) {
	case 'f': number(in, 4, input_take(in, 1) % 8); break;
	case 'n': text(names[input_take(in, 1) % ARRAY_LEN(names)]); break;
	case 's': text(texts[input_take(in, 1) % ARRAY_LEN(texts)]); break;
	case 'x': text(xattrs[input_take(in, 1) % ARRAY_LEN(xattrs)]); break;
	case 'v': text(input_take(in, 1) ? "9P2000.L" : "9P2000"); break;
	case 'g': number(in, 4, input_take(in, 1)); break;
	case 'G': number(in, 8, input_take(in, 1)); break;
	case 'a': number(in, 4, input_take(in, 2) & 0x1ff); break;
	case 'u': number(in, 4, input_take(in, 1) & 1 ? P9_AT_REMOVEDIR : 0); break;
	case 'k': number(in, 1, input_take(in, 1) % 3); break;
	case 't': number(in, 4, P9_LOCK_FLAG_BLOCK); break;
	case 'd':
		n = (unsigned)input_take(in, 1);
		number(in, 4, n);
		memset(p, 'x', n);
		p += n;
		break;
	case 'w':
		n = (unsigned)input_take(in, 1) % 4;
		number(in, 2, n);
		while (n--)
			field(in, 'n');
		break;
	default: number(in, (unsigned)(kind - '0'), input_take(in, (unsigned)(kind - '0'))); break;
	}
}

/* A message of the input's, in msg. */
static uint32_t message(struct fuzz_input *in)
{
	uint8_t what = (uint8_t)input_take(in, 1);

	p = msg + P9_HEADER;
	if (what >= 0xc8) {
		msg[4] = (uint8_t)input_take(in, 1);
		p += input_bytes(in, p, input_take(in, 1));
	} else {
		const char *f = forms[what % ARRAY_LEN(forms)].fields;

		msg[4] = forms[what % ARRAY_LEN(forms)].type;
		for (; *f; f++)
			field(in, *f);
		if (what >= 0xc0) {	/* cut off */
			size_t n = input_take(in, 1) % 16;

			p -= MIN((size_t)(p - msg) - P9_HEADER, n);
		}
	}
	st_le16(msg + 5, (uint16_t)(input_take(in, 1) % 4));
	st_le32(msg, (uint32_t)(p - msg));
	return (uint32_t)(p - msg);
}

static unsigned waiting;

static void done(struct p9_req *r)
{
	if (r->out_len && (r->out_len < P9_HEADER || r->out_len > r->out_room || ld_le32(r->out) != r->out_len))
		abort();
	waiting--;
	free((void *)r->in);
	free(r->out);
	free(r);
}

static void send(struct p9 *s, uint32_t len)
{
	struct p9_req *r = calloc(1, sizeof(*r));
	uint8_t *in = malloc(len);

	memcpy(in, msg, len);
	*r = (struct p9_req){ .in = in, .in_len = len, .out = malloc(sizeof(out)), .out_room = P9_ERROR_SIZE + (len * 37) % 4000, .done = done };
	waiting++;
	p9_submit(s, r);
	if (waiting > WAITING)
		p9_drain(s);
}

/* The session is saved and goes on with what was saved, of which two bytes may be wrong. */
static void save_load(struct p9 *s, struct fuzz_input *in)
{
	struct err e;
	uint32_t len;
	uint8_t *b;

	p9_drain(s);
	if (p9_save(s, &b, &len))
		return;
	for (unsigned i = 0; i < 2 && in->left > 3; i++)
		b[input_take(in, 2) % len] ^= (uint8_t)input_take(in, 1);
	if (p9_load(s, b, len, &e) && !e.msg[0])
		abort();
	free(b);
}

static char top[64], dir[80], outside[80];

static int rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	if (flag == FTW_D || flag == FTW_DNR)
		chmod(path, 0700);
	return 0;
}

/* Folders may have any mode. */
static void rm_all(const char *path)
{
	for (unsigned i = 0; i < MESSAGES && !access(path, F_OK); i++) {
		nftw(path, open_up, 8, FTW_PHYS);
		nftw(path, rm, 8, FTW_DEPTH | FTW_PHYS);
	}
}

/* What the host does meanwhile: away with a name, and something else in its place. */
static void meddle(unsigned n)
{
	char path[160], other[160];

	snprintf(path, sizeof(path), "%s/%s", dir, names[n % 4]);
	snprintf(other, sizeof(other), "%s/%s", dir, names[(n >> 2) % 8]);
	n >>= 5;
	if (n & 1)
		rename(path, other);
	else
		rm_all(path);
	switch (n >> 1) {
	case 0: (void)!symlink("../outside", path); break;
	case 1: mkdir(path, 0700); break;
	case 2: mkfifo(path, 0600); break;
	default: close(open(path, O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0600)); break;
	}
}

static void make_folders(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/secret", outside);
	if (mkdir(dir, 0700) || mkdir(outside, 0700))
		abort();
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof(path), "%s/link", dir);
	(void)!symlink("../outside", path);
	snprintf(path, sizeof(path), "%s/out", dir);
	(void)!symlink(outside, path);
	snprintf(path, sizeof(path), "%s/sub", dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/sub/file", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	mkfifo(path, 0600);
}

/* One empty file, as it was made. */
static void check_outside(const struct stat *was)
{
	char path[160];
	struct stat st;

	snprintf(path, sizeof(path), "%s/secret", outside);
	if (stat(path, &st) || st.st_size || st.st_nlink != 1 || st.st_mode != (S_IFREG | 0600) || st.st_uid != geteuid() ||
	    st.st_mtim.tv_nsec != was->st_mtim.tv_nsec || st.st_atim.tv_nsec != was->st_atim.tv_nsec || rmdir(outside) == 0 || unlink(path) || rmdir(outside))
		abort();
}

static void clean(void)
{
	rm_all(top);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	snprintf(top, sizeof(top), "%s/lodge-fuzz-p9-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(top))
		abort();
	snprintf(dir, sizeof(dir), "%s/share", top);
	snprintf(outside, sizeof(outside), "%s/outside", top);
	atexit(clean);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t how = (uint8_t)input_take(&in, 1);
	struct p9_opts o = {
		.path = dir, .name = "fuzz", .model = how & 3, .multidevs = (how >> 2) % 3, .readonly = (how & 0x70) == 0x70, .plain_open = how & 0x80,
		.max_fds = how & 8 ? 1 : 16,
	};
	char path[160];
	struct stat was;
	struct err e;
	struct p9 *s;

	make_folders();
	snprintf(path, sizeof(path), "%s/secret", outside);
	if (stat(path, &was))
		abort();
	if (!p9_new(&o, &s, &e)) {
		struct fuzz_input begin = { (const uint8_t[]){ ARRAY_LEN(forms) - 1, 0, 0, 1, 0, 1, 0 }, 7 };

		send(s, message(&begin));
		begin = (struct fuzz_input){ (const uint8_t[]){ 0, 0, 0, 0, 0, 0, 0 }, 7 };
		send(s, message(&begin));
		for (unsigned n = 0; n < MESSAGES && in.left; n++) {
			if (in.p[0] < 0xd0) {
				send(s, message(&in));
				continue;
			}
			input_take(&in, 1);
			n += 3;
			if (in.left && in.p[0] == 0xff)
				p9_reset(s);
			else if (in.left && in.p[0] == 0xfe)
				save_load(s, &in);
			else
				meddle((unsigned)input_take(&in, 1));
		}
		p9_drain(s);
		p9_free(s);
		if (waiting)
			abort();
	}
	check_outside(&was);
	rm_all(dir);
	if (!access(dir, F_OK))
		abort();
	return 0;
}
