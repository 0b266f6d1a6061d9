/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the NVMe controller share: nvme.c has the PCI function,
 * registers and life cycle, nvme_queue.c doorbells, queues and interrupts,
 * nvme_data.c the way to a command's data, nvme_admin.c and nvme_identify.c
 * the admin commands, nvme_log.c events and log pages, nvme_io.c the I/O
 * commands, nvme_snap.c saved state.
 *
 * All of struct nvme is protected by the controller's lock, that of the I/O
 * thread or else the machine's; register accesses hold both.  Doorbells alone
 * come without a lock: they are atomic words, and the I/O thread is woken.
 *
 * Every command that was fetched has a free entry of its completion queue set
 * aside (cq.outstanding), so that it can be completed at any time.  Asynchronous
 * event requests, which may stay for ever, have not.
 *
 * Numbers in comments are sections of NVM Express Base 1.4.
 */
#ifndef LODGE_DEVICE_NVME_INT_H
#define LODGE_DEVICE_NVME_INT_H

#include "device/nvme.h"

#define NVME_QUEUES (NVME_MAX_IO_QUEUES + 1)	/* with the admin queue */
#define NVME_MAX_ENTRIES 2048			/* CAP.MQES */
#define NVME_SQE 64
#define NVME_CQE 16
#define NVME_MDTS 8				/* log2 of pages of 4 KiB: 1 MiB */
#define NVME_MAX_DATA (4096u << NVME_MDTS)
#define NVME_MAX_IOV 1024
#define NVME_MPS_MAX 4				/* CAP.MPSMAX: 64 KiB */
#define NVME_AERS 4				/* outstanding event requests */
#define NVME_EVENTS 8
#define NVME_ERRORS 16				/* entries of the error log */
#define NVME_ABORTS 4
#define NVME_DSM_RANGES 256

#define NVME_ALL_NS 0xffffffffu
#define NVME_SHUTDOWN 0xffff			/* no queue: the flush of a shutdown */

/* 3.1: registers */
enum {
	NVME_CAP = 0x00, NVME_VS = 0x08, NVME_INTMS = 0x0c, NVME_INTMC = 0x10, NVME_CC = 0x14, NVME_CSTS = 0x1c,
	NVME_AQA = 0x24, NVME_ASQ = 0x28, NVME_ACQ = 0x30, NVME_REGS_END = 0x40, NVME_DOORBELLS = 0x1000,
};
#define CC_EN 1u
#define CC_SHN 0xc000u
#define CSTS_RDY 1u
#define CSTS_CFS 2u
#define CSTS_SHST 0xcu
#define CSTS_SHST_BUSY 4u
#define CSTS_SHST_DONE 8u

/* 4.6.1: status, bits 31:17 of a completion's last dword. */
#define NVME_DNR 0x4000
enum {
	NVME_OK = 0,
	NVME_INVALID_OPCODE = 0x01 | NVME_DNR,
	NVME_INVALID_FIELD = 0x02 | NVME_DNR,
	NVME_DATA_TRANSFER = 0x04,
	NVME_INTERNAL = 0x06,
	NVME_ABORT_REQUESTED = 0x07,
	NVME_ABORT_SQ_DELETION = 0x08,
	NVME_INVALID_NS = 0x0b | NVME_DNR,
	NVME_SEQUENCE = 0x0c | NVME_DNR,
	NVME_SGL_SEGMENT = 0x0d | NVME_DNR,
	NVME_SGL_NUMBER = 0x0e | NVME_DNR,
	NVME_SGL_LENGTH = 0x0f | NVME_DNR,
	NVME_SGL_TYPE = 0x11 | NVME_DNR,
	NVME_PRP_OFFSET = 0x13 | NVME_DNR,
	NVME_PROTECTED = 0x20 | NVME_DNR,
	NVME_LBA_RANGE = 0x80 | NVME_DNR,
	NVME_CQ_INVALID = 0x100 | NVME_DNR,
	NVME_QID_INVALID = 0x101 | NVME_DNR,
	NVME_QSIZE_INVALID = 0x102 | NVME_DNR,
	NVME_AER_LIMIT = 0x105 | NVME_DNR,
	NVME_VECTOR_INVALID = 0x108 | NVME_DNR,
	NVME_LOG_INVALID = 0x109 | NVME_DNR,
	NVME_QUEUE_DELETION = 0x10c | NVME_DNR,
	NVME_NOT_SAVEABLE = 0x10d | NVME_DNR,
	NVME_NOT_CHANGEABLE = 0x10e | NVME_DNR,
	NVME_WRITE_FAULT = 0x280,
	NVME_UNRECOVERED_READ = 0x281,
	NVME_COMPARE_FAILURE = 0x285,
	NVME_PENDING = -1,			/* not a status: the answer comes later */
};

/* 5.2: events */
enum { NVME_EV_ERROR = 0, NVME_EV_SMART = 1, NVME_EV_NOTICE = 2, NVME_EV_TYPES };
enum { NVME_LOG_ERROR = 1, NVME_LOG_SMART = 2, NVME_LOG_SLOT = 3, NVME_LOG_NS = 4, NVME_LOG_EFFECTS = 5 };

struct nvme_cmd {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_cmd) == NVME_SQE, "4.2, submission queue entry");

struct nvme_sq {
	uint64_t base;
	const uint8_t *host;
	uint32_t size;
	uint16_t cqid, head, tail;
	uint32_t seen;			/* last in the doorbell buffer */
	uint32_t asked;			/* the tail that the driver is to ring at, as it was told last, plus one; 0: not yet */
	bool live;
};

struct nvme_cq {
	uint64_t base;
	uint8_t *host;
	uint32_t size;
	uint16_t head, tail, vector;
	uint32_t seen;			/* last in the doorbell buffer */
	uint32_t outstanding;		/* fetched commands not yet completed here */
	bool live, ien, phase;
	bool irq_due;
};

struct nvme_ns {
	struct disk disk;
	struct nvme *n;
	unsigned nsid;
	unsigned shift;			/* log2 of the block size */
	uint64_t blocks;
	bool changed;			/* of the changed namespaces log */
	uint8_t guid[16];
};

struct nvme_event { uint8_t type, info, page; };

struct nvme_error {
	uint64_t count, lba;
	uint32_t nsid;
	uint16_t sqid, cid, status;
};

struct nvme_feat {
	uint32_t arbitration, power, error_recovery, write_cache, coalescing, atomicity, async;
	uint16_t temp_over, temp_under;
	uint16_t n_sq, n_cq;		/* granted */
};

/* A command in flight; pieces of guest memory, and for ranges these, follow it. */
struct nvme_req {
	struct disk_req q;
	struct nvme *n;
	struct nvme_ns *ns;
	struct nvme_cmd cmd;
	uint16_t sqid;			/* or NVME_SHUTDOWN */
	bool all_ns;			/* a flush that goes on to the next namespace */
	uint8_t *bounce;		/* compare: what the disk has */
	struct iovec bounce_iov;
	unsigned niov;
	struct iovec iov[];
};

struct nvme {
	struct pci_dev pci;		/* first */
	struct machine *m;
	char id[32];
	struct nvme_opts o;
	struct nvme_ns *ns[NVME_MAX_NS];	/* by nsid - 1 */
	unsigned n_ns;
	uint32_t page;			/* bytes, CC.MPS */
	/* registers */
	uint32_t intms, cc, csts, aqa;
	uint64_t asq, acq;
	struct nvme_feat feat;
	struct nvme_sq sq[NVME_QUEUES];
	struct nvme_cq cq[NVME_QUEUES];
	/* doorbells, written by vCPUs */
	_Atomic uint32_t sq_bell[NVME_QUEUES], cq_bell[NVME_QUEUES];
	_Atomic uint64_t sq_rung, cq_rung;
	_Atomic bool bad_rung;		/* a register of no queue */
	_Atomic bool want_cq;		/* wake the loop for completion queue heads too */
	struct loop_fd kick_fd;
	struct bus_region bells;
	/* 5.7: doorbell buffers; NULL while there are none */
	uint64_t shadow_gpa, eventidx_gpa;
	uint32_t *shadow, *eventidx;
	/* events */
	uint16_t aer[NVME_AERS];
	unsigned n_aers;
	struct nvme_event event[NVME_EVENTS];
	unsigned n_events;
	uint8_t ev_masked;		/* bit: type reported, log page not read yet */
	struct nvme_error error[NVME_ERRORS];
	uint64_t n_errors, media_errors;
	bool paused, intx_mode, irq_any;
	struct iothread_work irq_work;
	/* Commands of saved state that are to be done again. */
	uint8_t *again;
	uint32_t n_again;
	struct iovec scratch[NVME_MAX_IOV];
};

static inline struct nvme_req *nvme_req_of(struct disk_req *q)
{
	return container_of(q, struct nvme_req, q);
}

static inline void nvme_lock(struct nvme *n)
{
	iothread_lock(n->o.io);
}
static inline void nvme_unlock(struct nvme *n)
{
	iothread_unlock(n->o.io);
}

/* NULL: no such namespace. */
static inline struct nvme_ns *nvme_ns_of(struct nvme *n, uint32_t nsid)
{
	return nsid && nsid <= n->n_ns ? n->ns[nsid - 1] : NULL;
}

static inline bool nvme_ready(const struct nvme *n)
{
	return (n->csts & (CSTS_RDY | CSTS_CFS)) == CSTS_RDY;
}

/* nvme.c */
/* Waits for all requests. */
void nvme_drain(struct nvme *n);

/* nvme_queue.c */
/* A doorbell was written. [any thread, no lock] */
void nvme_ring(struct nvme *n, uint64_t off, uint32_t value);
void nvme_kick_ready(void *opaque, uint32_t events);
/* Takes over what doorbells say, and fetches commands unless the machine is paused. */
void nvme_run(struct nvme *n);
void nvme_take_bells(struct nvme *n);
/* Does a command of that queue, for which a completion entry is set aside. */
void nvme_execute(struct nvme *n, unsigned sqid, const struct nvme_cmd *c);
/* Entries for which there is room. */
uint32_t nvme_cq_free(const struct nvme_cq *c);
/* size: entries. NVMe status */
int nvme_sq_open(struct nvme *n, unsigned id, uint64_t base, uint32_t size, unsigned cqid);
int nvme_cq_open(struct nvme *n, unsigned id, uint64_t base, uint32_t size, bool ien, unsigned vector);
void nvme_sq_close(struct nvme *n, unsigned id);
void nvme_cq_close(struct nvme *n, unsigned id);
/* The one place where a command ends: its completion is posted. */
void nvme_complete(struct nvme *n, unsigned sqid, uint16_t cid, int status, uint32_t dw0);
/* Posts a completion that has no entry set aside; false: no room. */
bool nvme_post_extra(struct nvme *n, unsigned sqid, uint16_t cid, int status, uint32_t dw0);
/* What was posted is told to the guest, now or soon. */
void nvme_tell(struct nvme *n);
void nvme_irq_work(void *nvme);
/* Both locks held: brings the pin in line. */
void nvme_intx_update(struct nvme *n);
/* Shadow doorbells are used from now on, or (0) no more. False: no such memory. */
bool nvme_shadow_set(struct nvme *n, uint64_t shadow, uint64_t eventidx);

/* nvme_data.c: maps `len` bytes of a command's data; pieces go to n->scratch. NVMe status */
int nvme_map(struct nvme *n, const struct nvme_cmd *c, uint64_t len, bool to_guest, unsigned *niov);
int nvme_to_guest(struct nvme *n, const struct nvme_cmd *c, const void *buf, uint64_t len);
int nvme_from_guest(struct nvme *n, const struct nvme_cmd *c, void *buf, uint64_t len);

/* nvme_admin.c, nvme_identify.c: NVMe status, or NVME_PENDING */
int nvme_admin(struct nvme *n, const struct nvme_cmd *c, uint32_t *dw0);
int nvme_identify(struct nvme *n, const struct nvme_cmd *c);
void nvme_feat_reset(struct nvme *n);
void nvme_make_guid(struct nvme_ns *ns);

/* nvme_log.c */
int nvme_get_log(struct nvme *n, const struct nvme_cmd *c);
void nvme_event(struct nvme *n, unsigned type, unsigned info, unsigned page);
/* Answers event requests as far as there are events and room. */
void nvme_events_run(struct nvme *n);
void nvme_log_error(struct nvme *n, unsigned sqid, const struct nvme_cmd *c, int status);
void nvme_check_temperature(struct nvme *n);

/* nvme_io.c */
int nvme_io(struct nvme *n, unsigned sqid, const struct nvme_cmd *c);
/* 7.6.2: everything to stable storage, then CSTS.SHST. */
void nvme_shutdown(struct nvme *n);
/* Frees a request that nobody answers any more. */
void nvme_drop(struct disk_req *q);
/* The same, completed as aborted. */
void nvme_abort(struct disk_req *q);
unsigned nvme_kept(const struct nvme *n);
/* Repeats what failed, and what saved state says. */
void nvme_retry(struct nvme *n);

/* nvme_snap.c */
int nvme_save(struct nvme *n, struct snap_out *o);
int nvme_load(struct nvme *n, struct snap_in *in, struct err *e);

#endif
