/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices that come and go, as commands see them. Loop thread, machine lock held. */
#ifndef LODGE_CONTROL_DEVICE_H
#define LODGE_CONTROL_DEVICE_H

#include "control/internal.h"
#include "vm/conf.h"

/* For struct vm_watch, with the control as opaque. */
void ctl_device_event(void *opaque, enum vm_device_event ev, const struct vm_device *d, const char *id);
bool ctl_disk_in_use(void *opaque, unsigned index);
/* cmd_block.c: a disk has come, leaves or has gone. */
void ctl_disk_event(struct control *ctl, enum vm_device_event ev, unsigned index);

/* hmp_device.c: the fields of a disk that drive_add keeps under this id. ENOENT; EBUSY: a disk has it */
int ctl_drive_fields(struct control *ctl, const char *id, struct conf *to, struct err *e);
void ctl_drives_free(struct control *ctl);

/* cmd_cpu.c: device_add of a CPU: its driver, its properties (ended by NULL), and it itself. */
bool ctl_cpu_driver(const char *name);
extern const char *const ctl_cpu_props[];
int ctl_cpu_add(struct ctl_call *c, const char *driver, const char *id, struct err *e);
/* The QOM path of a CPU; id: NULL if it has none. */
void ctl_cpu_path(const struct vm_config *cfg, unsigned i, const char *id, char *path, size_t len);
/* The CPU of that path; -ENOENT. */
int ctl_cpu_by_path(struct control *ctl, const char *name);

/* A value as the configuration has it: text, numbers, "on" and "off"; *out is in buf or the value. EINVAL */
int ctl_value_text(json_t *v, char *buf, size_t len, const char **out, struct err *e);
/* "driver,id=x,a=b" of a monitor for people, as the arguments of a command whose first one is `first`; ",," is a comma. NULL: no memory */
json_t *hmp_options(const char *text, const char *first);

#endif
