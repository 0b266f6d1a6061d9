/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the monitor for people share. */
#ifndef LODGE_CONTROL_HMP_H
#define LODGE_CONTROL_HMP_H

#include <jansson.h>
#include <stdio.h>

#include "control/internal.h"

#define HMP_MAX_WORDS 8

struct hmp {
	struct control *ctl;
	FILE *out;
	int n;
	char *word[HMP_MAX_WORDS];	/* [0]: the command */
	unsigned cpu;
	bool waits;			/* set by a command: hmp_finish is called later, by whoever it waits for */
	char *line, *text;		/* words point into line; what is printed */
	size_t len;
	void (*done)(void *opaque, char *text);
	void *opaque;
};
/* All is printed. Frees h. */
void hmp_finish(struct hmp *h);

/* A QMP command by its name; args are taken over. The result is the caller's; NULL: an error, which was printed. */
json_t *hmp_qmp(struct hmp *h, const char *name, json_t *args);
/* The same, when its result is of no interest. */
void hmp_just(struct hmp *h, const char *name, json_t *args);
const char *hmp_text(const json_t *j, const char *key);		/* "" if there is none */
long long hmp_number(const json_t *j, const char *key);

/* hmp_device.c */
void hmp_device_add(struct hmp *h);
void hmp_device_del(struct hmp *h);
void hmp_drive_add(struct hmp *h);
void hmp_drive_del(struct hmp *h);
void hmp_netdev_add(struct hmp *h);
void hmp_netdev_del(struct hmp *h);

/* cmd_memory.c */
void hmp_info_memory_devices(struct hmp *h);
void hmp_info_memory_size_summary(struct hmp *h);
void hmp_qom_set(struct hmp *h);
void hmp_qom_get(struct hmp *h);

/* hmp_pci.c */
void hmp_info_pci(struct hmp *h);

/* hmp_migrate.c */
void hmp_migrate(struct hmp *h);
void hmp_migrate_start_postcopy(struct hmp *h);
void hmp_migrate_continue(struct hmp *h);
void hmp_migrate_pause(struct hmp *h);
void hmp_migrate_recover(struct hmp *h);
void hmp_migrate_cancel(struct hmp *h);
void hmp_migrate_incoming(struct hmp *h);
void hmp_migrate_set_capability(struct hmp *h);
void hmp_migrate_set_parameter(struct hmp *h);
void hmp_info_migrate(struct hmp *h);
void hmp_info_migrate_parameters(struct hmp *h);
void hmp_info_migrate_capabilities(struct hmp *h);
/* hmp_chardev.c */
void hmp_chardev_add(struct hmp *h);
void hmp_chardev_change(struct hmp *h);
void hmp_chardev_remove(struct hmp *h);
void hmp_chardev_send_break(struct hmp *h);

/* cmd_savevm.c */
void hmp_savevm(struct hmp *h);
void hmp_loadvm(struct hmp *h);
void hmp_delvm(struct hmp *h);
void hmp_info_snapshots(struct hmp *h);

/* cmd_numa.c */
void hmp_info_numa(struct hmp *h);
void hmp_info_memdev(struct hmp *h);

/* hmp_screen.c */
void hmp_screendump(struct hmp *h);
void hmp_sendkey(struct hmp *h);
void hmp_mouse_move(struct hmp *h);
void hmp_mouse_button(struct hmp *h);
void hmp_change_password(struct hmp *h);
void hmp_info_vnc(struct hmp *h);
void hmp_info_mice(struct hmp *h);

/* hmp_block.c */
void hmp_drive_mirror(struct hmp *h);
void hmp_drive_backup(struct hmp *h);
void hmp_block_stream(struct hmp *h);
void hmp_job_pause(struct hmp *h);
void hmp_job_resume(struct hmp *h);
void hmp_job_set_speed(struct hmp *h);

#endif
