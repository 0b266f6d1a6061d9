/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A SCSI target: disks (SBC-3) and CD/DVD drives (MMC-6) on struct disk, with the
 * primary commands of SPC-4.  Its front ends are AHCI's ATAPI and virtio-scsi.
 *
 * A front end fills struct scsi_req with the command block and its memory and
 * submits it; done() is called exactly once, perhaps at once, unless the request
 * is forgotten.  The disk's lock (storage/disk.h) is held everywhere.
 */
#ifndef LODGE_STORAGE_SCSI_H
#define LODGE_STORAGE_SCSI_H

#include "storage/media.h"

#define SCSI_CDB_MAX 16
#define SCSI_SENSE_LEN 18

enum { SCSI_GOOD = 0x00, SCSI_CHECK = 0x02, SCSI_BUSY = 0x08 };

/* SPC-4, 4.5.6 */
enum { SENSE_NONE = 0, SENSE_NOT_READY = 2, SENSE_MEDIUM = 3, SENSE_HARDWARE = 4, SENSE_ILLEGAL = 5, SENSE_ATTENTION = 6, SENSE_PROTECT = 7 };

struct scsi_lun {
	struct disk disk;
	bool cd;
	bool tray_open, locked;
	bool no_medium;			/* the node is an empty one */
	bool changed;			/* a medium has come or gone, not yet told by an event */
	bool eject_asked;		/* the user asks for it, not yet told by an event */
	uint16_t attention;		/* ASC and ASCQ of a unit attention that is due; 0: none */
	uint32_t sense;			/* key, ASC, ASCQ of the last error, for REQUEST SENSE */
	/* Something for GET EVENT STATUS NOTIFICATION has happened. Set by the front end; NULL: it does not care. */
	void (*media_changed)(struct scsi_lun *l);
};

struct scsi_req {
	struct disk_req q;
	struct scsi_lun *l;
	uint8_t cdb[SCSI_CDB_MAX];	/* padded with zeros */
	/* The guest's memory for what is read and written; may be the same. Stays until done. */
	const struct iovec *in, *out;
	unsigned n_in, n_out;
	uint64_t len_in, len_out;
	void (*done)(struct scsi_req *r);
	/* The answer. */
	uint8_t status;
	uint8_t sense[SCSI_SENSE_LEN];	/* fixed format; valid with SCSI_CHECK */
	uint64_t moved;			/* bytes that were transferred */
	/* private */
	struct disk_range *range;	/* freed with the request by scsi_req_clean */
	struct iovec *iov;
};

/* As disk_init; a CD's blocks have 2048 bytes. */
int scsi_lun_init(struct scsi_lun *l, struct machine *m, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o,
		  struct err *e);
/* Power on or bus reset: the next command is told so. */
void scsi_lun_reset(struct scsi_lun *l);
void scsi_submit(struct scsi_req *r);
/* Frees what the target allocated for it: in done(), or when it is forgotten. */
void scsi_req_clean(struct scsi_req *r);

static inline struct scsi_req *scsi_req_of(struct disk_req *q)
{
	return container_of(q, struct scsi_req, q);
}

/* For front ends with several units at a target: REPORT LUNS, and any command to a unit that is not there. r->l is one that is. */
void scsi_report_luns(struct scsi_req *r, const uint16_t *lun, unsigned n);
void scsi_no_lun(struct scsi_req *r, unsigned lun);

/* The state a lun saves with its controller's: tray, lock, attention. */
struct scsi_lun_state {
	uint8_t tray_open, locked, changed, eject_asked, no_medium;
	uint16_t attention;
	uint32_t sense;
};
struct scsi_lun_state scsi_lun_get(const struct scsi_lun *l);
/* EINVAL: it was of a drive with a medium, and there is none in this one, or the other way round. */
int scsi_lun_set(struct scsi_lun *l, const struct scsi_lun_state *s);

/*
 * What the user does to a drive (l->cd).  Machine lock and the disk's held; the disk's node is a slot (block/graph.h).
 */
/* Opens the tray. EINPROGRESS: the guest has locked it, and was asked to open it. With `force` the lock is nothing. */
int scsi_open_tray(struct scsi_lun *l, bool force);
void scsi_close_tray(struct scsi_lun *l);
/* Takes the medium out of the open tray and closes its image.  There was none: nothing happens. ENOMEM, and all is as it was */
int scsi_remove_medium(struct scsi_lun *l);
/* Puts a medium into the open, empty tray; `image` is the slot's from then on. EINVAL: its size. */
int scsi_insert_medium(struct scsi_lun *l, struct blk_node *image, struct err *e);

/* For scsi.c, scsi_info.c, scsi_cd.c and scsi_media.c. */
extern const struct disk_media_ops scsi_media_ops;
/* There is something to be read. */
static inline bool scsi_ready(const struct scsi_lun *l)
{
	return !l->tray_open && !l->no_medium;
}
/* The tray's position, whoever wants it; nothing happens if it is so. The disk's lock held. */
void scsi_move_tray(struct scsi_lun *l, bool open);
#define SCSI_SENSE(key, asc, ascq) ((uint32_t)(key) << 16 | (uint32_t)(asc) << 8 | (ascq))
#define SCSI_BAD_FIELD SCSI_SENSE(SENSE_ILLEGAL, 0x24, 0)
#define SCSI_BAD_OPCODE SCSI_SENSE(SENSE_ILLEGAL, 0x20, 0)
/* Numbers in commands and answers are big-endian. */
static inline uint16_t scsi_ld16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t scsi_ld32(const uint8_t *p) { return (uint32_t)scsi_ld16(p) << 16 | scsi_ld16(p + 2); }
static inline uint64_t scsi_ld64(const uint8_t *p) { return (uint64_t)scsi_ld32(p) << 32 | scsi_ld32(p + 4); }
static inline void scsi_st16(uint8_t *p, uint64_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void scsi_st32(uint8_t *p, uint64_t v) { scsi_st16(p, v >> 16); scsi_st16(p + 2, v); }
static inline void scsi_st64(uint8_t *p, uint64_t v) { scsi_st32(p, v >> 32); scsi_st32(p + 4, v); }
void scsi_end(struct scsi_req *r, uint32_t sense);
/* Answers with data, cut to what the command and the guest have room for. */
void scsi_reply(struct scsi_req *r, const void *buf, uint64_t len, uint64_t alloc);
uint64_t scsi_blocks(const struct scsi_lun *l);
/* True if it was one of theirs. */
bool scsi_info(struct scsi_req *r);
bool scsi_cd(struct scsi_req *r);

#endif
