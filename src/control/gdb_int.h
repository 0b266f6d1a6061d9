/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the gdb stub: gdb.c the connection and its packets, gdb_cmd.c what
 * they ask for, gdb_mem.c memory and breakpoints, gdb_regs.c registers.  Machine
 * lock held everywhere.  Protocol: "Debugging with GDB", appendix E.
 */
#ifndef LODGE_CONTROL_GDB_INT_H
#define LODGE_CONTROL_GDB_INT_H

#include "control/internal.h"

#define GDB_PACKET 16384u		/* bytes between $ and #, both ways */
#define GDB_BREAKPOINTS 1024u

/* An INT3 of ours in the guest's code. */
struct gdb_break {
	uint64_t lin, gpa;
	uint8_t byte;			/* what belongs there */
};

struct gdb {
	struct control *ctl;
	struct ctl_address at;
	struct loop_fd listener;	/* loop NULL: there is a client */
	struct loop_fd client;		/* fd -1: none */
	struct loop_timer again;	/* accept failed for want of something */
	bool leaving;			/* the client is gone, what it left is taken away when the VM stands still */
	bool detached;			/* nothing here is its any more, but the connection */
	bool was_running;		/* when it came */
	bool running;			/* it has let the guest go, and waits to hear of a stop */
	bool interrupted;		/* by ^C */
	bool no_ack;
	unsigned thread;		/* vCPU that commands are about */

	/* The packet being read. */
	enum { GDB_IDLE, GDB_DATA, GDB_SUM1, GDB_SUM2 } state;
	uint8_t sum, said;
	bool damaged, escape;
	char in[GDB_PACKET + 1];
	size_t in_len;
	bool in_ready;			/* a whole one, kept until the VM stands still */

	/* The answer, framed; kept for a client that did not get it. */
	char out[2 * GDB_PACKET + 8];
	size_t out_len, out_sent;
	char body[GDB_PACKET + 1];	/* being composed */
	size_t body_len;

	struct cpu_debug points;
	struct gdb_break brk[GDB_BREAKPOINTS];	/* ascending by lin */
	uint64_t int3[GDB_BREAKPOINTS];
	unsigned n_brk;
	char *xml;
};

/* gdb.c: the answer being composed; what does not fit is cut off. */
void gdb_put(struct gdb *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_put_hex(struct gdb *g, const void *data, size_t len);
/* Bytes that two digits each describe; how many there were. */
size_t gdb_hex(const char *text, uint8_t *out, size_t max);
/* The VM goes on; step: one vCPU, or -1. */
void gdb_go(struct gdb *g, int step);
/* Ends the connection and lets the VM be as it was. */
void gdb_drop(struct gdb *g);

/* gdb_cmd.c: leaves the answer in body; false: there is none to be sent (now). */
bool gdb_command(struct gdb *g, char *p, size_t len);
/* Why it stands still. */
void gdb_put_stop(struct gdb *g);

/* gdb_mem.c.  How many bytes could be read from lin on, with the guest's own where we have breakpoints. */
size_t gdb_read(struct gdb *g, uint64_t lin, uint8_t *buf, size_t len);
bool gdb_write(struct gdb *g, uint64_t lin, const uint8_t *buf, size_t len);
/* type as in the packet: 0 to 4. -errno */
int gdb_break_add(struct gdb *g, unsigned type, uint64_t lin, uint32_t len);
int gdb_break_del(struct gdb *g, unsigned type, uint64_t lin, uint32_t len);
/* Takes all away. The VM stands still, or its vCPUs are gone. */
void gdb_break_clear(struct gdb *g);

/* gdb_regs.c */
unsigned gdb_regs(void);		/* how many there are */
unsigned gdb_reg_bytes(unsigned n);	/* at most 32 */
void gdb_reg_get(const struct x86_state *s, unsigned n, uint8_t *out);
void gdb_reg_set(struct x86_state *s, unsigned n, const uint8_t *in);
/* The description of all of them; free it. NULL: no memory */
char *gdb_reg_xml(void);

#endif
