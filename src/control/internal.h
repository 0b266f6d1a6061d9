/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the control protocol's server.
 *
 * server.c listens, monitor.c is one client (bytes in, bytes out, both bounded),
 * dispatch.c turns a text into a call and a call into an answer, events.c tells
 * clients what happens; cmd_*.c are the commands.  Everything is protected by the
 * machine lock; what happens elsewhere (disks' I/O threads) is posted to the
 * machine's loop first.
 */
#ifndef LODGE_CONTROL_INTERNAL_H
#define LODGE_CONTROL_INTERNAL_H

#include "base/bits.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/stream.h"
#include "control/address.h"
#include "control/control.h"
#include "control/schema_gen.h"
#include "control/split.h"
#include "machine/machine.h"
#include "platform/x86/platform.h"
#include "virtio/console.h"
#include "vm/live.h"

#define CTL_MAX_MONITORS 64
#define CTL_MAX_QUEUE 8			/* commands that wait behind one that takes time */
#define CTL_MAX_FDS 64			/* descriptors that clients left with us, each kind */
#define CTL_RETRY_NS 1000000000ll	/* accept failed for want of something: so much later it may succeed */
#define CTL_IN 16384
#define CTL_OUT_LOW 65536u		/* no command is begun while more than this is not taken */
#define CTL_OUT_MAX (1u << 20)		/* no event is added beyond this */

enum ctl_class { CTL_GENERIC_ERROR, CTL_COMMAND_NOT_FOUND, CTL_DEVICE_NOT_ACTIVE, CTL_DEVICE_NOT_FOUND, CTL_KVM_MISSING_CAP };

struct ctl_monitor;
struct ctl_txn;

/* One command from its start to its answer. */
struct ctl_call {
	struct control *ctl;
	struct ctl_monitor *mon;	/* NULL: the client is gone, or there never was one (HMP) */
	json_t *id, *args;		/* id: NULL if there was none */
	json_t *ret;			/* NULL: {} */
	bool failed, deferred, oob;
	struct ctl_txn *txn;		/* that it is part of (job.h); NULL: none */
	enum ctl_class class;
	struct err e;
	struct list node;		/* of those deferred, by whoever will answer */
};

/* For handlers.  Takes `value` over; NULL (no memory) makes it an error. */
void ctl_return(struct ctl_call *c, json_t *value);
void ctl_fail(struct ctl_call *c, enum ctl_class class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* ret < 0 with a message in e: GenericError.  True if it was one. */
bool ctl_failed(struct ctl_call *c, int ret, const struct err *e);
/* The answer comes later: the call lives on in this list until ctl_answer. NULL: no memory, and it has failed. */
struct ctl_call *ctl_defer(struct ctl_call *c, struct list *waiting);
/* Answers a deferred call and frees it. */
void ctl_answer(struct ctl_call *c);

/* dispatch.c */
struct ctl_text {
	json_t *msg;			/* NULL: `why` says what was wrong */
	char why[160];
};
/* Reads a text. Memory that is short is a reason like others. */
void ctl_text_read(struct ctl_text *t, const char *buf, size_t len, const char *why);
bool ctl_text_is_oob(const struct ctl_text *t);
/* Runs it for this client and answers, or leaves m->pending.  Frees t's message. */
void ctl_text_run(struct ctl_monitor *m, struct ctl_text *t);
json_t *ctl_error_json(enum ctl_class class, const char *desc);
json_t *ctl_version_json(void);

/* monitor.c */
struct ctl_fd {
	struct list node;
	int fd;
	char name[64];
};

struct ctl_monitor {
	struct control *ctl;
	struct ctl_listener *from;	/* NULL: not accepted */
	struct list node;
	struct loop_fd in, out;		/* a socket has only `in` */
	struct loop_bh step;
	bool socket, tcp, pretty;
	bool negotiated, oob;
	bool eof, hup, dead;
	struct stream *stream;		/* layers over a socket; NULL: none */
	bool beginning;			/* they are not there yet: nothing is said or heard */
	struct loop_timer late;
	char name[128];			/* of the place, for messages */
	struct ctl_split split;
	char buf[CTL_IN];
	size_t buf_len, buf_off;
	struct ctl_text queue[CTL_MAX_QUEUE];
	unsigned n_queue;
	struct ctl_call *pending;	/* deferred, in order: what follows waits for it */
	char *out_buf;
	size_t out_len, out_off, out_cap;
	uint64_t events_lost;
	int passed[CTL_MAX_QUEUE];	/* came with the bytes, not yet taken by a command */
	unsigned n_passed;
	struct list fds;		/* struct ctl_fd: getfd's */
};

/* Takes the descriptors over on success, and the layers (of a socket; NULL: none). out_fd < 0: `fd` is a socket. */
int ctl_monitor_new(struct control *ctl, int fd, int out_fd, const struct ctl_address *a, struct ctl_listener *from,
		    struct stream *layers);
void ctl_monitor_free(struct ctl_monitor *m);
/* Queues an answer or event; takes it over. */
void ctl_monitor_send(struct ctl_monitor *m, json_t *j, bool event);
/* What can be sent now, is. */
void ctl_monitor_flush(struct ctl_monitor *m);
/* The oldest descriptor that came along, or -1. */
int ctl_monitor_take_fd(struct ctl_monitor *m);
/* The descriptor that getfd named so, and takes it off the list; -1: none. */
int ctl_monitor_fd(struct ctl_monitor *m, const char *name);

/* events.c */
struct ctl_limit {
	struct control *ctl;
	struct loop_timer timer;
	int64_t next_ns;
	json_t *held;			/* to be sent when the timer rings */
};
/* Takes data over; NULL: none. */
void ctl_emit(struct control *ctl, enum ctl_event ev, json_t *data);
/* The same for an event of one of several things, each of which has a limit of its own. */
void ctl_emit_by(struct control *ctl, struct ctl_limit *l, enum ctl_event ev, json_t *data);
void ctl_events_init(struct control *ctl);
void ctl_events_fini(struct control *ctl);

/* server.c */
struct ctl_listener {
	struct control *ctl;
	struct ctl_address at;
	struct list node;
	struct loop_fd fd;		/* fd.loop NULL: as many clients as may be */
	unsigned clients;
	bool ours;			/* the path is removed at the end */
	struct tls_creds *tls;		/* NULL: none */
	struct tls_guard guard;
};

struct ctl_place;
struct gdb;
struct ctl_disks;
struct ctl_nbd;
struct disk;

struct control {
	struct vm *vm;
	struct machine *m;
	struct list monitors, listeners, hmps;	/* hmps: monitors for people */
	unsigned n_monitors;
	struct loop_timer accept_again;
	struct ctl_limit limit[CTL_EVENTS], port_limit[VIRTIO_CONSOLE_MAX_PORTS], cpu_limit[MACHINE_MAX_VCPUS], memory_limit[PLATFORM_MAX_MEMORY];
	struct ctl_place *place;	/* the folder of the default socket; NULL: none */
	struct list stops;		/* deferred calls of `stop` */
	struct list saves;		/* the deferred call of x-lodge-snapshot-save */
	struct list lines;		/* deferred calls of human-monitor-command */
	struct list shots;		/* pictures being written: cmd_screen.c */
	struct list typing;		/* deferred calls of x-lodge-type */
	unsigned buttons, abs_x, abs_y;	/* of the pointer that commands move */
	bool points;			/* it was last moved to a position, not by a distance */
	struct list fdsets;
	struct ctl_disks *disks;
	struct list drives;		/* of drive_add: hmp_device.c */
	struct list jobs;		/* struct ctl_job */
	struct gdb *gdb;		/* NULL: no gdb stub */
	struct ctl_nbd *nbd;		/* NULL: not started */
	bool ending;			/* clients may still ask; what takes time is not begun */
	int64_t said_ns;		/* complaints about connections' layers: so many since then */
	unsigned n_said;
};

/* A client of this listener has gone: there is room. */
void ctl_listener_room(struct ctl_listener *l);

/* cmd_machine.c */
void ctl_machine_init(struct control *ctl);
void ctl_machine_fini(struct control *ctl);
/* job.c */
/* Is something at work on the disk? */
bool ctl_disk_busy(const struct control *ctl, const struct disk *d);
/* Cancels all jobs and waits for their end; no lock held. */
void ctl_jobs_end(struct control *ctl);

/* cmd_migrate.c */
void ctl_migration_event(struct control *ctl);

/* cmd_screen.c */
void ctl_screen_fini(struct control *ctl);

/* gdb.c: the stub listens at this address. */
int gdb_new(struct control *ctl, const char *address, struct err *e);
void gdb_free(struct control *ctl);		/* machine lock held; NULL is allowed */
/* Something has happened to the VM. */
void gdb_vm_event(struct control *ctl, enum vm_event ev);

/* hmp.c: runs a line of a monitor for people.  `done` gets the text that it prints, to be freed (NULL: no memory), before this returns
 * or, if the line takes time, later on the loop. */
void hmp_line(struct control *ctl, const char *text, unsigned cpu, void (*done)(void *opaque, char *text), void *opaque);

/* True if there is something to complete: what to insert, and (else "") a list of the choices; free both. */
bool hmp_complete(const char *before, char **insert, char **choices);

/* hmp_monitor.c: on this chardev; machine lock held. */
int hmp_monitor_new(struct control *ctl, const char *id, struct err *e);
void hmp_monitors_free(struct control *ctl);

/* cmd_parts.c */
json_t *ctl_uuid(const uint8_t u[16]);		/* as text */
void ctl_watchdog_event(struct control *ctl);

/* cmd_cpu.c: ACPI's _OST of this CPU */
void ctl_cpu_event(struct control *ctl, unsigned i);

/* cmd_memory.c: this memory device has another size; a property of one is set (value), or asked for (NULL): false: the path is no memory device's. */
void ctl_memory_event(struct control *ctl, unsigned i);
bool ctl_memory_property(struct ctl_call *c, const char *path, const char *property, const json_t *value);

/* cmd_chardev.c */
void ctl_port_event(struct control *ctl, int64_t value);

/* cmd_nbd.c */
void ctl_nbd_stop(struct control *ctl);
/* Is the disk shown to NBD clients? */
bool ctl_nbd_shows(const struct control *ctl, const struct disk *d);

/* cmd_fd.c */
void ctl_fdsets_free(struct control *ctl);
/* What a file's name stands for, if it is "/dev/fdset/N": a descriptor of the set that may do what is needed, under its name in
 * /proc/self/fd, in buf.  *path is changed then.  EACCES: the set has none, or there is no such set. */
#define CTL_FDSET_NAME 32
enum ctl_fdset_use { CTL_FDSET_READ, CTL_FDSET_WRITE, CTL_FDSET_BOTH };
int ctl_fdset_path(struct control *ctl, const char **path, enum ctl_fdset_use use, char buf[CTL_FDSET_NAME], struct err *e);
/* The same for all of a block node's description, in place. */
int ctl_fdset_paths(struct control *ctl, json_t *description, struct err *e);

#endif
