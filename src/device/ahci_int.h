/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the AHCI controller share: ahci.c has the PCI function, the
 * global registers and saved state, ahci_port.c the ports, command lists and
 * FISes, ahci_ata.c the commands of disks and the way to the SCSI target.
 *
 * All is protected by the controller's lock, that of its I/O thread or the
 * machine's; register accesses hold both.  Numbers are sections of AHCI 1.3.1.
 */
#ifndef LODGE_DEVICE_AHCI_INT_H
#define LODGE_DEVICE_AHCI_INT_H

#include "device/ahci.h"
#include "storage/scsi.h"

#define AHCI_SLOTS 32
#define AHCI_MAX_IOV 1024u

/* 3.3: port registers */
enum {
	PX_CLB = 0x00, PX_CLBU = 0x04, PX_FB = 0x08, PX_FBU = 0x0c, PX_IS = 0x10, PX_IE = 0x14, PX_CMD = 0x18, PX_TFD = 0x20, PX_SIG = 0x24,
	PX_SSTS = 0x28, PX_SCTL = 0x2c, PX_SERR = 0x30, PX_SACT = 0x34, PX_CI = 0x38,
};
#define IS_DHRS 0x1u
#define IS_PSS 0x2u
#define IS_SDBS 0x8u
#define IS_HBDS BIT(28)			/* data could not be moved */
#define IS_HBFS BIT(29)			/* a structure could not be read */
#define IS_TFES BIT(30)
#define CMD_ST 0x1u
#define CMD_CLO 0x8u
#define CMD_FRE 0x10u
#define CMD_FR 0x4000u
#define CMD_CR 0x8000u

/* ATA status and error */
#define ST_ERR 0x01
#define ST_DRQ 0x08
#define ST_DRDY 0x50			/* with DSC, as old drivers like it */
#define ST_BSY 0x80
#define ER_ABRT 0x04
#define ER_IDNF 0x10
#define ER_UNC 0x40

enum ahci_kind { AHCI_NONE, AHCI_DISK, AHCI_CD };

struct ahci_port {
	struct ahci *a;
	unsigned n;
	enum ahci_kind kind;
	struct scsi_lun lun;		/* its disk is the ATA disk's too */
	uint64_t clb, fb;
	uint32_t is, ie, cmd, tfd, sig, sctl, serr, sact, ci;
	uint32_t busy;			/* slots that were taken and are not done */
	bool stopped;			/* after an error, until ST is cleared */
	bool reset_asked;		/* SRST is set */
	/* Of the drive */
	uint8_t multiple;
	bool smart_off, no_cache;
	uint8_t ncq_err[16];		/* the registers of the last NCQ error, log 10h */
};

/* One command; pieces of guest memory, and ranges of a TRIM, follow it. */
struct ahci_req {
	struct scsi_req s;
	struct ahci_port *p;
	uint8_t slot, fis[20];
	bool ncq, pio;
	bool unmapped;			/* its list of memory makes no sense: len is 0 */
	uint32_t prdbc;
	uint64_t len;			/* bytes of all pieces */
	unsigned niov;
	struct iovec iov[];
};

struct ahci {
	struct pci_dev pci;		/* first */
	struct machine *m;
	char id[32];
	struct iothread *io;
	uint32_t ghc, is;
	struct ahci_port port[AHCI_PORTS];
	struct loop_bh kick;
	bool paused;
	struct iothread_work irq_work;
	struct iovec scratch[AHCI_MAX_IOV];
};

static inline struct ahci_req *ahci_req_of(struct disk_req *q)
{
	return container_of(q, struct ahci_req, s.q);
}

/* ahci.c */
void ahci_irq_changed(struct ahci *a);

/* ahci_port.c */
void ahci_port_write(struct ahci_port *p, uint32_t off, uint32_t v);
uint32_t ahci_port_read(const struct ahci_port *p, uint32_t off);
/* Power on, or HBA reset. Drains. */
void ahci_port_reset(struct ahci_port *p);
/* Takes commands that were issued. */
void ahci_port_run(struct ahci_port *p);
/* The command ends: status and error registers, FIS, interrupt.  Frees the request. */
void ahci_done(struct ahci_req *r, uint8_t status, uint8_t error);
/* The command moves data and is unmapped: the port stops (6.1.2).  Frees the request. */
void ahci_bad_data(struct ahci_req *r);
void ahci_drop(struct disk_req *q);

/* ahci_ata.c */
void ahci_ata(struct ahci_req *r);
void ahci_packet(struct ahci_req *r, const uint8_t *cdb);

#endif
