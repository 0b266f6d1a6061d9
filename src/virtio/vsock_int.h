/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of virtio-vsock: vsock.c has the queues, vsock_conn.c what a connection does, vsock_host.c the host's sockets.
 *
 * Nothing is in flight between callbacks: a packet of the guest's is answered at once, its data are written to the host's socket
 * or kept in the connection's buffer (which is the credit that the guest has), and data of the host's are read straight into
 * a buffer of the guest's.  Packets to the guest wait as bits of their connections, and RSTs of no connection in a short
 * list; when that is long, no more of the guest's packets are looked at.
 */
#ifndef LODGE_VIRTIO_VSOCK_INT_H
#define LODGE_VIRTIO_VSOCK_INT_H

#include <sys/un.h>

#include "base/list.h"
#include "virtio/vsock.h"

#define VSOCK_HOST_CID 2u
#define VSOCK_HDR_LEN 44u
/* Ports of the host's side, of connections that it makes: as others have them, out of the way of well-known ones. */
#define VSOCK_HOST_PORT(n) (1u << 30 | ((uint32_t)(n) & ((1u << 30) - 1)))
#define VSOCK_BUF (128u << 10)		/* the guest's credit: bytes of it that the host has not taken yet */
#define VSOCK_MAX_DATA (64u << 10)	/* in a packet to the guest */
#define VSOCK_LINE_MAX 32		/* "CONNECT 4294967294\n" */
#define VSOCK_RSTS 64			/* that may wait before the guest's packets have to */

/* How long a connection may be half open, and how long what a guest has left behind may wait without a byte of it being taken. */
#define VSOCK_HELLO_NS 10000000000ll
#define VSOCK_CLOSED_NS 8000000000ll
#define VSOCK_DRAIN_NS 60000000000ll

/* 5.10.6 */
enum vsock_op {
	VSOCK_OP_REQUEST = 1, VSOCK_OP_RESPONSE, VSOCK_OP_RST, VSOCK_OP_SHUTDOWN, VSOCK_OP_RW, VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
};
#define VSOCK_TYPE_STREAM 1
#define VSOCK_SHUT_RCV 1u		/* 5.10.6.5: the sender takes nothing more */
#define VSOCK_SHUT_SEND 2u		/* it sends nothing more */
#define VSOCK_SHUT_BOTH 3u

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

enum vsock_state {
	VSOCK_FREE,
	VSOCK_HELLO,		/* a host program has come, and not said yet where it wants to */
	VSOCK_CALLING,		/* the guest is asked */
	VSOCK_OPEN,
	VSOCK_CLOSED,		/* the host is through with it, and the guest has to say that it is, too; no socket any more */
	VSOCK_DRAIN,		/* the guest is through with it, and knows it no more; what it sent is still on its way out */
};

/* Packets to be sent. */
#define VSOCK_SEND_REQUEST 1u
#define VSOCK_SEND_RESPONSE 2u
#define VSOCK_SEND_CREDIT 4u
#define VSOCK_SEND_ASK 8u		/* CREDIT_REQUEST */

struct vsock;

struct vsock_conn {
	struct vsock *v;
	struct list ready;		/* in v->ready while there is something to send, else alone */
	enum vsock_state state;
	struct loop_fd fd;		/* .fd -1: none */
	uint32_t events;		/* that it is watched for, while fd.loop */
	uint32_t guest_port, host_port;
	uint32_t send;			/* VSOCK_SEND_* */
	bool called;			/* CALLING: REQUEST has been sent */
	bool readable;			/* the socket may have bytes, or its end */
	bool host_eof;			/* nothing more comes from the host */
	bool host_deaf;			/* it takes nothing more */
	bool wr_shut;			/* it has been told that nothing more comes */
	bool asked;			/* for credit, since there was some */
	uint32_t shut_told;		/* VSOCK_SHUT_*: what the guest knows of the host's end */
	uint32_t guest_shut;		/* and what it said of its own */
	/* 5.10.6.3.  Numbers of bytes that wrap; the peer's are the guest's words. */
	uint32_t peer_alloc, peer_fwd, tx_cnt;
	uint32_t rx_cnt, fwd_cnt, fwd_told;
	uint8_t *buf;			/* a ring of VSOCK_BUF bytes; NULL until it is needed */
	uint32_t buf_at, buf_len;
	int64_t deadline_ns;		/* 0: none */
	unsigned line_len;
	char line[VSOCK_LINE_MAX];
};

struct vsock_rst {
	uint64_t cid;			/* whom it is from */
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev dev;		/* first */
	uint64_t cid;
	struct sockaddr_un addr;	/* PATH, of which a guest's connections have a number behind it */
	struct loop_fd listen;
	bool accepting;
	int64_t accept_ns;		/* descriptors had run out: not before then; 0: at once */
	struct loop_timer timer;
	uint32_t next_port;		/* of the host's side, of connections it makes */
	bool event;			/* TRANSPORT_RESET is to be told */
	struct list ready;
	/* Each connection that the guest knows may add one to those that its own packets made. */
	struct vsock_rst rst[VSOCK_RSTS + VIRTIO_VSOCK_CONNS + 1];
	unsigned rst_at, n_rst;
	unsigned n_conns;
	struct vsock_conn conn[VIRTIO_VSOCK_CONNS];
	struct virtio_vsock_stats stats;
	struct vq_chain chain;		/* scratch */
	struct iovec iov[VQ_MAX_IOV];
};

/* ---- vsock.c ---- */

static inline bool vsock_live(const struct vsock *v)
{
	return v->dev.started && !v->dev.paused;
}
/* Sends what is to be sent, as far as there are buffers. */
void vsock_pump(struct vsock *v);
/* An RST of no connection, or no longer. */
void vsock_rst(struct vsock *v, uint64_t cid, uint32_t host_port, uint32_t guest_port, uint16_t type);

/* ---- vsock_conn.c ---- */

/* NULL: there are too many.  Takes fd over on success. */
struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, int fd);
struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);
void vsock_conn_free(struct vsock_conn *c);
/* Ends it, with an RST if the guest knows it. */
void vsock_conn_reset(struct vsock_conn *c);
/* A packet of the guest's for it, whose data follow in the chain. */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h, const struct vq_chain *chain);
/* The next packet for the guest: the header but for CIDs and type, and its data, which are in the chain. False: there is none. */
bool vsock_conn_next(struct vsock_conn *c, struct vsock_hdr *h, const struct vq_chain *chain);
/* After anything has changed: in the list of those with something to send, and watched for what matters now. */
void vsock_conn_update(struct vsock_conn *c);
void vsock_conn_unwatch(struct vsock_conn *c);
void vsock_conn_deadline(struct vsock_conn *c);
/* Its time is up. */
void vsock_conn_expired(struct vsock_conn *c);

/* ---- vsock_host.c ---- */

int vsock_host_listen(struct vsock *v, const char *path, struct err *e);
void vsock_host_close(struct vsock *v);
/* Watches the listening socket if connections may come. */
void vsock_host_accept(struct vsock *v);
/* The line that a host program begins with. */
void vsock_host_hello(struct vsock_conn *c);
/* "OK PORT\n": the guest has taken the connection. */
void vsock_host_greet(struct vsock_conn *c);
/* A socket that is connected to PATH_PORT, or a negative errno. */
int vsock_host_connect(struct vsock *v, uint32_t port);
/* Deadlines: the next one's timer. */
void vsock_host_arm(struct vsock *v);
void vsock_host_timer(void *opaque);

#endif
