/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes between two VMMs of a live migration, little endian: records, each
 * checked by itself.
 *
 *	u32 magic "LDGM"  u16 type  u16 flags (0)  u32 number  u32 length  u32 CRC-32  then the payload
 *
 * Numbers count each side's records of one connection from 0 on; the CRC is that of the
 * header, with zeros in its place, and the payload.  What comes out of order, is longer
 * than MIG_MAX or has another checksum ends the connection.  vm/migrate.h has what is said when.
 */
#ifndef LODGE_VM_MIGRATE_WIRE_H
#define LODGE_VM_MIGRATE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/tls.h"

#define MIG_VERSION 1u
#define MIG_HEAD 20u
#define MIG_MAX (1u << 20)		/* bytes of a payload */
#define MIG_ID 16u			/* bytes that name a migration, by chance */
#define MIG_LANES_MAX 16u		/* further connections */

enum mig_type {
	MIG_HELLO = 1,		/* source: u32 version, u32 MIG_ASKS, MIG_JOINS, MIG_RESUMES or 0, id, text: its program's version */
	MIG_ABOUT,		/* destination: JSON, what it is (migrate_about.c) */
	MIG_BEGIN,		/* source: u32 MIG_GENID, MIG_MAY_BE_LATE, 16 bytes: the VM generation ID, which is to stay; u32 how many further connections (not
				 * there: none) */
	MIG_REFUSE,		/* source: text, why it does not */
	MIG_PAGES,		/* source: see migrate_ram.h */
	MIG_ZEROS,
	MIG_ROUND,		/* source: all pages of a round have been sent. Nothing */
	MIG_STATE,		/* source: u64 of how many bytes, u64 from which on, then they: a state file (vm/snapshot.h) */
	MIG_COMPLETE,		/* source: that is all; u32 MIG_RUNS, MIG_COMES_LATE */
	MIG_LOADED,		/* destination: all is there and makes sense */
	MIG_TAKE,		/* source: the disks are free */
	MIG_TAKEN,		/* destination: they are its own; u32 MIG_MARKED or 0 */
	MIG_GO,			/* source: the guest is the destination's */
	MIG_RUNNING,		/* destination: it knows that */
	MIG_DONE,		/* source: it has heard that, and will ask nothing */
	MIG_FAILED,		/* destination: text, why not, and it gives up */
	MIG_CANCEL,		/* source: it was asked to give up */
	MIG_ANSWER,		/* destination, to a hello with MIG_ASKS: u32 enum mig_answer */
	MIG_JOIN,		/* source, on a further connection: u32 which one (migrate_lanes.h) */
	MIG_JOINED,		/* destination: it is taken */
	MIG_LATE,		/* source: a map of pages that come after the guest (migrate_late.h) */
	MIG_WANT,		/* destination: u64 page, for each that is waited for */
	MIG_ALL,		/* destination: all memory is there */
	MIG_MISSING,		/* destination, to a hello with MIG_RESUMES: a map of pages that have not come */
	MIG_TYPES
};

#define MIG_ASKS 1u		/* no migration: what became of the one with this id? */
#define MIG_JOINS 2u		/* a further connection of the one with this id */
#define MIG_RESUMES 4u		/* memory comes on, for the one with this id */
#define MIG_LANE_LATE 0xffffu	/* the number of the connection that memory comes over after its guest */
#define MIG_GENID 1u
#define MIG_MAY_BE_LATE 2u	/* that connection is one of those that join */
#define MIG_RUNS 1u		/* the guest ran, and is to run again */
#define MIG_COMES_LATE 2u	/* what MIG_LATE said */
#define MIG_MARKED 1u		/* the disks say whose they are: migrate_disks.c */
enum mig_answer { MIG_UNKNOWN, MIG_NEVER, MIG_STARTED };

struct mig_record {
	enum mig_type type;
	uint32_t len;
	uint32_t seq;
	uint32_t crc;
};

/* Into MIG_HEAD bytes; the payload is in pieces. */
void mig_head_put(uint8_t head[MIG_HEAD], enum mig_type type, uint32_t seq, const struct iovec *iov, unsigned n);
/* EPROTO: not one, or not the one that is due.  The payload is not looked at. */
int mig_head_get(const uint8_t head[MIG_HEAD], uint32_t seq, struct mig_record *r, struct err *e);
/* EPROTO: damaged on its way */
int mig_check(const uint8_t head[MIG_HEAD], const struct mig_record *r, const void *payload, struct err *e);

/*
 * A connection, for one thread.  What takes long ends with ECANCELED when stop_fd can be read.
 * Closed by the other side, or broken: EPIPE.  ETIMEDOUT: nothing moved for timeout_ms.
 */
struct mig_chan {
	int in, out;			/* non-blocking; the same for a socket.  -1: none */
	int stop_fd;			/* not the channel's own */
	int timeout_ms;			/* -1: for ever */
	int alarm_fd;			/* not the channel's own; -1: none.  What waits to read ends with ENOLINK when it can be read */
	pid_t child;			/* exec: 0: none */
	struct tls *tls;		/* NULL: plain */
	uint8_t *pack;			/* with TLS: records of a few bytes go together */
	uint32_t sent_n, got_n;
	uint64_t sent_bytes, got_bytes;
	uint8_t *buf;			/* MIG_MAX: the payload of the last record that was read */
};

/* Takes the descriptors over, also when it fails. ENOMEM and others */
int mig_chan_init(struct mig_chan *c, int in, int out, int stop_fd, struct err *e);
void mig_chan_fini(struct mig_chan *c);
/*
 * TLS, before anything is said: of both sides' records none is seen, or changed, by anybody else.  Nothing is done without credentials.  What
 * does not speak it, or is not who it should be, ends here: EACCES, EPROTO and others; within c->timeout_ms a step.
 */
struct mig_tls {
	struct tls_creds *creds;	/* NULL: plain.  One owner more */
	char *host;			/* client: whose name the certificate has */
	char *authz;			/* server: who may come; NULL: whom the CA has signed */
};
int mig_secure(struct mig_chan *c, const struct mig_tls *t, struct err *e);
void mig_tls_free(struct mig_tls *t);
int mig_send(struct mig_chan *c, enum mig_type type, const struct iovec *iov, unsigned n, struct err *e);
int mig_send_bytes(struct mig_chan *c, enum mig_type type, const void *p, size_t len, struct err *e);
int mig_send_u32(struct mig_chan *c, enum mig_type type, uint32_t v, struct err *e);
int mig_send_text(struct mig_chan *c, enum mig_type type, const char *text, struct err *e);
/* The next record, its payload in c->buf. */
int mig_recv(struct mig_chan *c, struct mig_record *r, struct err *e);
/* Something is here that no descriptor tells of. */
bool mig_pending(const struct mig_chan *c);
/* Until there is something to read. ETIMEDOUT and others, with nothing taken. */
int mig_await(struct mig_chan *c, struct err *e);
/* The first u32 of a payload, 0 if it has none. */
uint32_t mig_u32(const struct mig_chan *c, const struct mig_record *r);
/* A payload as text, what cannot be printed replaced. */
void mig_text(const struct mig_chan *c, const struct mig_record *r, char *out, size_t size);
const char *mig_type_name(enum mig_type t);

/*
 * Where to: "tcp:HOST:PORT", "unix:PATH", "exec:COMMAND" (a shell's, with the stream on its standard input and output) or "fd:N".
 * EINVAL and others, with a message.
 */
bool mig_uri_listens(const char *uri);	/* a destination can wait there for several */
int mig_uri_check(const char *uri, struct err *e);
/* The host of tcp:, malloc'ed; NULL: there is none, or no memory. */
char *mig_uri_host(const char *uri);
int mig_connect(const char *uri, int stop_fd, int timeout_ms, struct mig_chan *c, struct err *e);
/* A listening socket, non-blocking; *port: the one of tcp:, if it was 0 a free one. */
int mig_listen(const char *uri, int *fd, unsigned *port, struct err *e);
/* Waits for somebody. */
int mig_accept(int listen_fd, int stop_fd, int timeout_ms, struct mig_chan *c, struct err *e);

#endif
