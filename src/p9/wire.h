/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of 9P2000.L: message numbers, and cursors that read and write fields.
 * Numbers are little-endian, strings have a length of two bytes in front and no
 * end mark.  A cursor that meets the end, or a string that cannot be, remembers it:
 * what is read from then on is zero, and what is written gets lost.
 */
#ifndef LODGE_P9_WIRE_H
#define LODGE_P9_WIRE_H

#include <limits.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	TLERROR = 6, TSTATFS = 8, TLOPEN = 12, TLCREATE = 14, TSYMLINK = 16, TMKNOD = 18, TRENAME = 20, TREADLINK = 22, TGETATTR = 24,
	TSETATTR = 26, TXATTRWALK = 30, TXATTRCREATE = 32, TREADDIR = 40, TFSYNC = 50, TLOCK = 52, TGETLOCK = 54, TLINK = 70, TMKDIR = 72,
	TRENAMEAT = 74, TUNLINKAT = 76, TVERSION = 100, TAUTH = 102, TATTACH = 104, TFLUSH = 108, TWALK = 110, TREAD = 116, TWRITE = 118,
	TCLUNK = 120, TREMOVE = 122,
};
#define RLERROR 7

#define P9_NOFID UINT32_MAX
#define P9_NOTAG UINT16_MAX
#define P9_MAX_WALK 16
#define P9_IO_HEADER 24u		/* what iounit leaves room for */
#define P9_NAME (NAME_MAX + 1)

#define P9_QTDIR 0x80
#define P9_QTSYMLINK 0x02
#define P9_QTFILE 0x00
#define P9_QID_SIZE 13u

#define P9_AT_REMOVEDIR 0x200

/* Tgetattr's */
#define P9_STATS_BASIC 0x7ffull
#define P9_STATS_BTIME 0x800ull

/* Tsetattr's */
enum {
	P9_ATTR_MODE = 0x1, P9_ATTR_UID = 0x2, P9_ATTR_GID = 0x4, P9_ATTR_SIZE = 0x8, P9_ATTR_ATIME = 0x10, P9_ATTR_MTIME = 0x20,
	P9_ATTR_CTIME = 0x40, P9_ATTR_ATIME_SET = 0x80, P9_ATTR_MTIME_SET = 0x100,
};

/* Tlock's and Tgetlock's */
enum { P9_LOCK_RDLCK, P9_LOCK_WRLCK, P9_LOCK_UNLCK };
enum { P9_LOCK_SUCCESS, P9_LOCK_BLOCKED, P9_LOCK_ERROR };
#define P9_LOCK_FLAG_BLOCK 1

struct p9_qid {
	uint8_t type;
	uint32_t version;
	uint64_t path;
};

struct p9_in {
	const uint8_t *p, *end;
	int err;		/* 0 or -errno */
};

struct p9_out {
	uint8_t *base, *p, *end;
	bool full;
};

uint8_t p9_get8(struct p9_in *c);
uint16_t p9_get16(struct p9_in *c);
uint32_t p9_get32(struct p9_in *c);
uint64_t p9_get64(struct p9_in *c);
/* A text of less than size bytes, copied with a NUL behind it.  err: ENAMETOOLONG, EINVAL if there is a NUL in it. */
void p9_get_text(struct p9_in *c, char *buf, size_t size);
/* What may be the name of a file in its folder: P9_NAME bytes.  err: as above, ENOENT if it is empty, EINVAL for ".", ".." or
 * one with "/" in it. */
void p9_get_name(struct p9_in *c, char *buf);
/* The same, or "." or "..": for Twalk. */
void p9_get_step(struct p9_in *c, char *buf);
/* n bytes where they are; NULL and err if there are not so many. */
const uint8_t *p9_get_bytes(struct p9_in *c, size_t n);

void p9_put8(struct p9_out *c, uint8_t v);
void p9_put16(struct p9_out *c, uint16_t v);
void p9_put32(struct p9_out *c, uint32_t v);
void p9_put64(struct p9_out *c, uint64_t v);
void p9_put_qid(struct p9_out *c, const struct p9_qid *q);
void p9_put_text(struct p9_out *c, const char *text, size_t len);
/* Room that is left, in bytes. */
size_t p9_room(const struct p9_out *c);

#endif
