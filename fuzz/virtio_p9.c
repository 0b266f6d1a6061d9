/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-9p against a hostile driver; messages themselves are fuzz/p9.c's. */
#include "virtio_fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "virtio/p9.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static int rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static void clean(void)
{
	nftw(dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

/* Messages that mount: their bytes in guest memory, for descriptors to point at. */
static void action(struct fuzz *f, uint8_t what)
{
	static const uint8_t version[] = { 21, 0, 0, 0, 100, 0, 0, 0, 32, 0, 0, 8, 0, '9', 'P', '2', '0', '0', '0', '.', 'L' };
	static const uint8_t attach[] = { 23, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0 };

	if (what & 1)
		memcpy(f->ram + 0x8000, version, sizeof(version));
	else
		memcpy(f->ram + 0x8000, attach, sizeof(attach));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/lodge-fuzz-vp9-XXXXXX" : "/dev/shm/lodge-fuzz-vp9-XXXXXX");
	if (!mkdtemp(dir))
		abort();
	atexit(clean);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct p9_opts o = { .path = dir, .name = "fuzz", .readonly = true, .max_fds = 8, .max_threads = size & 1 };
	struct virtio_dev *d;
	struct p9 *s;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (p9_new(&o, &s, &e) || virtio_p9_new(f.m, "share0", s, "tag", &d, &e))
		abort();
	f.action = action;
	fuzz_play(&f, d);
	return 0;
}
