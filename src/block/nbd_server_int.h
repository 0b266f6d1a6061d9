/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD server's inside: nbd_server.c has sockets and lives, nbd_negotiate.c what
 * is said before an export is chosen, nbd_transmit.c requests and replies.
 *
 * A client's bytes are collected until what is due is whole (`in`, `need`), then
 * handled, which sets what is due next.  Numbers are big-endian.
 */
#ifndef LODGE_BLOCK_NBD_SERVER_INT_H
#define LODGE_BLOCK_NBD_SERVER_INT_H

#include <endian.h>
#include <string.h>

#include "base/bits.h"
#include "base/list.h"
#include "block/nbd_server.h"

#define NBD_MAX_NAME 4096
#define NBD_MAX_OPTION (64u << 10)	/* data of an option that is looked at */
#define NBD_MAX_SKIP (1u << 20)		/* of one that is not; a client with more to say is cut off */
#define NBD_ROOM 4096			/* in front of data in a reply's buffer */
#define NBD_OUT_MAX (256u << 10)	/* replies to options that wait for the client to read */

enum {
	NBD_FLAG_FIXED_NEWSTYLE = 1, NBD_FLAG_NO_ZEROES = 2,

	NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT = 2, NBD_OPT_LIST = 3, NBD_OPT_STARTTLS = 5, NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7, NBD_OPT_STRUCTURED_REPLY = 8, NBD_OPT_LIST_META = 9, NBD_OPT_SET_META = 10,

	NBD_REP_ACK = 1, NBD_REP_SERVER = 2, NBD_REP_INFO = 3, NBD_REP_META_CONTEXT = 4,

	NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3,

	NBD_HAS_FLAGS = 1, NBD_READ_ONLY = 2, NBD_SEND_FLUSH = 4, NBD_SEND_FUA = 8, NBD_SEND_TRIM = 32,
	NBD_SEND_WRITE_ZEROES = 64, NBD_SEND_DF = 128, NBD_CAN_MULTI_CONN = 256,
};
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERR_INVALID 0x80000003u
#define NBD_REP_ERR_UNKNOWN 0x80000006u
#define NBD_REP_ERR_TOO_BIG 0x80000009u

enum nbd_step {
	NBD_STEP_FLAGS,			/* the client's 4 bytes of flags */
	NBD_STEP_OPTION,		/* 16 bytes: an option's head */
	NBD_STEP_OPTION_DATA,
	NBD_STEP_SKIP,			/* data of an option that was refused */
	NBD_STEP_REQUEST,		/* 28 bytes */
	NBD_STEP_PAYLOAD,		/* of a write */
	NBD_STEP_END,			/* nothing more is read */
};

struct nbd_export {
	struct list in;
	struct blk_node *n;
	char *name, *description;
	bool read_only;
};

/* Bytes on their way to the client; with the request they answer, which counts until they are sent. */
struct nbd_out {
	struct list in;
	uint8_t *mem;			/* to be freed */
	const uint8_t *at;
	size_t len, charge;
	bool request;
};

struct nbd_client {
	struct list in;
	struct nbd_server *s;
	struct nbd_export *x;		/* chosen; NULL before */
	struct loop_fd fd;
	struct loop_timer deadline;	/* of the negotiation */
	enum nbd_step step;
	bool no_zeroes, structured, contexts, dead;
	uint32_t option;

	uint8_t head[28];
	uint8_t *in_buf;		/* where bytes go: head, or allocated */
	size_t have, need;
	struct nbd_req *writing;	/* whose payload is being read */

	struct list out;
	size_t out_bytes;
	unsigned requests;		/* until their replies are sent */
	size_t bytes;
};

struct nbd_server {
	struct loop *loop;
	struct list exports, clients, listeners;
	unsigned n_clients, max_clients;
	struct loop_bh reap;
};

static inline uint16_t nbd_get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return be16toh(v); }
static inline uint32_t nbd_get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static inline uint64_t nbd_get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }
static inline void nbd_put16(uint8_t *p, uint16_t v) { v = htobe16(v); memcpy(p, &v, 2); }
static inline void nbd_put32(uint8_t *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static inline void nbd_put64(uint8_t *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }

/* ---- nbd_server.c ---- */
/* What is read next: into c->head if buf is NULL. */
void nbds_expect(struct nbd_client *c, enum nbd_step step, uint8_t *buf, size_t need);
/* Ends the connection; the client is freed when its requests have ended. */
void nbds_drop(struct nbd_client *c);
/* Takes mem over (also if it fails: then the client is dropped) and sends len bytes of it from byte `from` on. */
void nbds_send(struct nbd_client *c, uint8_t *mem, size_t from, size_t len, bool request, size_t charge);
/* Copies. */
void nbds_send_copy(struct nbd_client *c, const void *data, size_t len, bool request);
struct nbd_export *nbds_find(struct nbd_server *s, const uint8_t *name, size_t len);
/* A request has ended without a reply of its own, or its reply is sent. */
void nbds_uncharge(struct nbd_client *c, size_t charge);

/* ---- nbd_negotiate.c: each after c->need bytes are there ---- */
void nbds_hello(struct nbd_client *c);
void nbds_flags(struct nbd_client *c);
void nbds_option_head(struct nbd_client *c);
void nbds_option_data(struct nbd_client *c);

/* ---- nbd_transmit.c ---- */
void nbds_request(struct nbd_client *c);
void nbds_payload(struct nbd_client *c);
/* The client goes: a write whose payload is not there yet. */
void nbds_forget_writing(struct nbd_client *c);

#endif
