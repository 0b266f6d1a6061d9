/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the VNC server share.  All of it belongs to the server's thread. */
#ifndef LODGE_DISPLAY_VNC_INT_H
#define LODGE_DISPLAY_VNC_INT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/tls.h"
#include "base/websocket.h"
#include "display/clipboard.h"
#include "display/display.h"
#include "display/input.h"
#include "display/vnc/vnc.h"

/* A growing buffer; bytes [at, len) are still to be used. */
struct vnc_buf {
	uint8_t *data;
	size_t at, len, room;
	bool failed;			/* memory ran out: what is in it is of no use */
};

void vnc_put(struct vnc_buf *b, const void *p, size_t n);
void vnc_put8(struct vnc_buf *b, unsigned v);
void vnc_put16(struct vnc_buf *b, unsigned v);
void vnc_put32(struct vnc_buf *b, uint32_t v);
/* Room for n more bytes at data + len, NULL: none. */
uint8_t *vnc_room(struct vnc_buf *b, size_t n);
void vnc_drop(struct vnc_buf *b, size_t n);	/* n bytes from `at` have been used */
void vnc_buf_free(struct vnc_buf *b);
static inline size_t vnc_left(const struct vnc_buf *b) { return b->len - b->at; }
static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }

/* ---- the connection: socket, TLS, WebSocket frames ---- */

#define VNC_IN_MAX (256u << 10)		/* what may wait to be understood */
#define VNC_OUT_BUSY (64u << 10)	/* more than this waits: no update is made */
#define VNC_OUT_ANSWERS (1u << 20)	/* a client that lets so many answers wait is given up */

struct vnc_conn {
	int fd;
	struct tls *tls;		/* NULL: plain */
	bool tls_started;
	bool ws, ws_open;		/* framed; the HTTP request has been answered */
	bool ws_closed;
	struct ws_in frames;
	struct vnc_buf raw, in;		/* frames; RFB */
	struct vnc_buf out, wire;	/* RFB; frames, or what is left of RFB */
	size_t update;			/* of what waits, at most so much is the last update and what was before it */
};

/* Takes what has come; -EAGAIN: nothing more now; other errors end the connection. */
int vnc_conn_read(struct vnc_conn *c);
/* Writes what it can; -EAGAIN: more is left. */
int vnc_conn_write(struct vnc_conn *c);
size_t vnc_conn_pending(const struct vnc_conn *c);
/* Are there more answers that nobody reads than there may be? */
bool vnc_conn_full(const struct vnc_conn *c);
void vnc_conn_close(struct vnc_conn *c);

/* ws.c: raw to in, out to wire. */
int vnc_ws_read(struct vnc_conn *c);
void vnc_ws_write(struct vnc_conn *c);

/* auth.c */
#define VNC_CHALLENGE 16
bool vnc_challenge(uint8_t out[VNC_CHALLENGE]);
/* Has OpenSSL read its configuration and make its tables, before the viewers' thread may open no file. */
void vnc_auth_prepare(void);
/* Is `answer` the challenge encrypted with the password?  In constant time. */
bool vnc_answer_right(const char *password, const uint8_t challenge[VNC_CHALLENGE], const uint8_t answer[VNC_CHALLENGE]);

/* ---- pixels ---- */

struct vnc_format {
	uint8_t bytes;			/* 1, 2, 4 */
	uint8_t depth;
	bool big;
	uint16_t max[3];		/* red, green, blue */
	uint8_t shift[3];
	uint32_t of[3][256];		/* a colour's part of a pixel */
	bool same;			/* as the surface has it */
	uint8_t cpixel;			/* bytes of a compressed pixel */
	bool cpixel_high;		/* its bytes are the upper three */
	bool rgb;			/* Tight's pixels are red, green, blue */
};

void vnc_format_init(struct vnc_format *f);
/* 16 bytes of the wire (7.4); false: not a format that can be served. */
bool vnc_format_set(struct vnc_format *f, const uint8_t wire[16]);
void vnc_format_put(const struct vnc_format *f, struct vnc_buf *b);
static inline uint32_t vnc_pixel(const struct vnc_format *f, uint32_t p)
{
	return f->of[0][p >> 16 & 255] | f->of[1][p >> 8 & 255] | f->of[2][p & 255];
}
/* n pixels in the client's format. */
void vnc_put_pixels(const struct vnc_format *f, struct vnc_buf *b, const uint32_t *p, size_t n);
void vnc_put_pixel(const struct vnc_format *f, struct vnc_buf *b, uint32_t p);
void vnc_put_cpixel(const struct vnc_format *f, struct vnc_buf *b, uint32_t p);

/* scan.c: how many of the first n pixels are of one of two colours. */
size_t vnc_scan_two(const uint32_t *px, size_t n, uint32_t a, uint32_t b);
/* The same with four colours, which may be equal. */
size_t vnc_scan_four(const uint32_t *px, size_t n, const uint32_t c[4]);
/* A bit for each of n pixels, 1: it is of that colour; from the highest down, (n + 7) / 8 bytes. */
void vnc_scan_bits(const uint32_t *px, unsigned n, uint32_t one, uint8_t *to);
/* Two bits for each: which of three or four different colours it is; (n + 3) / 4 bytes. */
void vnc_scan_indices(const uint32_t *px, unsigned n, const uint32_t *c, unsigned colours, uint8_t *to);

/* ---- encodings ---- */

enum { ENC_RAW = 0, ENC_HEXTILE = 5, ENC_TIGHT = 7, ENC_ZRLE = 16, ENC_TIGHT_PNG = -260 };
enum { PSEUDO_CURSOR = -239, PSEUDO_SIZE = -223, PSEUDO_LAST_RECT = -224, PSEUDO_POINTER_TYPE = -257, PSEUDO_QEMU_KEYS = -258,
       PSEUDO_EXT_SIZE = -308, PSEUDO_FENCE = -312, PSEUDO_CONTINUOUS = -313, PSEUDO_CURSOR_ALPHA = -314, PSEUDO_CLIPBOARD = -1063131698 /* 0xc0a1e5ce */ };

struct vnc_encoder {
	int kind;
	int level;			/* zlib's */
	int quality;			/* JPEG's 1 to 100; 0: no JPEG */
	z_stream zrle, tight[3];
	bool zrle_open, tight_open[3];
	struct vnc_buf scratch;
};

/* A rectangle of a picture of its own: rows follow each other. */
struct vnc_piece {
	struct display_rect r;
	const uint32_t *pixels;
};

/* Puts rectangles (usually one) with headers; returns how many.  Out of memory: b->failed. */
unsigned vnc_encode(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b);
unsigned vnc_encode_tight(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b);
void vnc_rect_header(struct vnc_buf *b, const struct display_rect *r, int encoding);
bool vnc_deflate(struct vnc_encoder *e, z_stream *z, bool *open, const void *p, size_t n, struct vnc_buf *b);
void vnc_encoder_free(struct vnc_encoder *e);
/* jpeg.c; -ENOTSUP without libjpeg. */
int vnc_jpeg(const uint32_t *pixels, unsigned w, unsigned h, int quality, struct vnc_buf *out);

/* ---- clients ---- */

enum vnc_state { VNC_VERSION, VNC_SECURITY, VNC_VENCRYPT_VERSION, VNC_VENCRYPT_TYPE, VNC_TLS, VNC_AUTH, VNC_INIT, VNC_RUN, VNC_ENDING };

struct vnc_client {
	struct list node;
	struct vnc *v;
	struct vnc_peer peer;
	struct vnc_conn c;
	struct loop_fd watch;
	struct loop_timer late;		/* handshakes end in time */
	enum vnc_state state;
	unsigned minor;			/* 3, 7, 8 */
	unsigned vencrypt;		/* subtype chosen */
	bool local_tls;			/* TLS began before RFB did */
	uint8_t challenge[VNC_CHALLENGE];
	bool look_only;
	uint64_t skip;			/* bytes of a message nobody wants */

	struct display_viewer viewer;
	bool watching;
	unsigned width, height;		/* of the frame buffer as the client knows it */
	struct vnc_format format;
	struct vnc_encoder enc;
	bool has_size, has_ext_size, has_cursor, has_alpha, has_fence, has_continuous, has_pointer_type;
	bool tell_keys, tell_pointer, tell_size, tell_cursor;	/* to be said in the next update */
	unsigned size_reason, size_status;
	bool rel_pointer;

	bool wanted;			/* an update was asked for */
	struct display_rect want;	/* of this */
	bool continuous;
	struct display_rect stream;
	unsigned buttons;		/* as on the wire */
	unsigned x, y;			/* where it pointed last */
	uint64_t down[INPUT_MAX_KEY / 64];	/* keys it holds */

	struct clipboard_peer clip;	/* clip.c NULL: it takes no part */
	bool clip_ready;		/* it has said whether it knows the extended one */
	bool has_clip;			/* it does */
	uint32_t clip_caps;		/* what it can of that */
	uint64_t clip_told, clip_asked;	/* serial of what it was told of, and was asked for */
	bool clip_wanted;		/* it asked for the text */
	struct vnc_buf cut;		/* of a message under way */
	uint32_t cut_left;		/* so much of it is still to come */
	bool cut_extended;
};

struct vnc_listener {
	struct vnc *v;
	struct loop_fd watch;
	bool ws;
};

struct vnc {
	struct display *d;
	struct input *in;
	struct clipboard *clip;		/* NULL: the guest has none */
	struct loop *loop;
	pthread_t thread;
	bool running;
	struct vnc_listener listener[3];	/* TCP, WebSockets, unix */
	unsigned n_listeners;
	struct list clients;
	unsigned n_clients;
	struct loop_timer tick;
	int64_t interval_ns;		/* between refreshes: longer while nothing happens */
	int64_t last_ns;		/* the last refresh */
	unsigned quiet;			/* refreshes since something changed */
	bool ticking;
	struct loop_timer accept_again;	/* the host has no descriptor left */
	pthread_mutex_t shared;		/* password, view_password, info: other threads look at them, and hold nothing after it */
	char *password, *view_password;
	bool password_later;		/* asked for without there being one; does not change */
	struct vnc_state_info info;
	char *unix_path;
	bool read_only;
	struct tls_creds *tls;		/* NULL: none */
	bool tls_x509;
	uint32_t *copy;			/* what is being encoded */
	size_t copy_room;		/* pixels */
};

/* client.c */
void vnc_client_new(struct vnc *v, int fd, bool ws);
void vnc_client_end(struct vnc_client *c);
/* Something is to be written. */
void vnc_client_flush(struct vnc_client *c);
/* cut.c: the clipboard.  Once the client is let in, and before it goes. */
void vnc_cut_join(struct vnc_client *c);
void vnc_cut_leave(struct vnc_client *c);
/* It knows the extended clipboard. */
void vnc_cut_extended(struct vnc_client *c);
/* ClientCutText of so many bytes, or fewer than none (extended): -EPROTO, or what follows is skipped, or for vnc_cut_add. */
#define VNC_MAX_CUT_TEXT (16u << 20)
int vnc_cut_begin(struct vnc_client *c, int32_t length);
/* n of the cut_left bytes. */
void vnc_cut_add(struct vnc_client *c, const uint8_t *p, size_t n);
/* Says what is to be said, if the client reads. */
void vnc_cut_pump(struct vnc_client *c);
/* server.c.  All of vnc_new but the thread: whoever calls turns v->loop. */
int vnc_make(struct display *d, struct input *in, const struct vnc_config *cfg, struct vnc **out, struct err *e);
/* Clients came or went. */
void vnc_publish(struct vnc *v);
bool vnc_has_password(struct vnc *v);
/* Is the answer right?  *full: by the password that is not for lookers only. */
bool vnc_password_right(struct vnc *v, const uint8_t challenge[VNC_CHALLENGE], const uint8_t answer[VNC_CHALLENGE], bool *full);
/* The other end of fd, or (own) this one. */
void vnc_peer_of(int fd, bool own, bool ws, struct vnc_peer *out);
/* Somebody wants an update, soon. */
void vnc_wake(struct vnc *v, bool now);
/* update.c: what has changed since the last one, if that is wanted; true: something was sent. */
bool vnc_update(struct vnc_client *c);
void vnc_size_rect(struct vnc_client *c, struct vnc_buf *b, unsigned reason, unsigned status);

#endif
