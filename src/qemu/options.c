// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of QEMU's options, and what is simple enough to be done on the spot.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "qemu/qemu.h"

#define SET_TEXT(fn, field) \
	static int fn(struct qemu *q, const char *val, struct err *e) { q->field = val; return 0; }
#define SET_FLAG(fn, field) \
	static int fn(struct qemu *q, const char *val, struct err *e) { q->field = true; return 0; }

SET_TEXT(opt_kernel, kernel)
SET_TEXT(opt_initrd, initrd)
SET_TEXT(opt_append, append)
SET_TEXT(opt_bios, bios)
SET_TEXT(opt_data_dir, data_dir)
SET_TEXT(opt_pidfile, pidfile)
SET_FLAG(opt_nodefaults, nodefaults)
SET_FLAG(opt_nographic, nographic)
SET_FLAG(opt_snapshot, snapshot)
SET_FLAG(opt_no_reboot, no_reboot)
SET_FLAG(opt_paused, paused)
SET_FLAG(opt_daemonize, daemonize)
SET_FLAG(opt_prealloc, prealloc)
SET_FLAG(opt_print_lodge, print_lodge)

static int opt_version(struct qemu *q, const char *val, struct err *e) { q->ask = QEMU_VERSION; return -EAGAIN; }
static int opt_help(struct qemu *q, const char *val, struct err *e) { q->ask = QEMU_HELP; return -EAGAIN; }
/* Programs give it wherever there is a /dev/kvm (autopkgtest), which says little: KVM if a guest runs well there. */
static int opt_kvm(struct qemu *q, const char *val, struct err *e) { q->accel = "auto"; return 0; }
/* Makes no difference to the guest. */
static int opt_nothing(struct qemu *q, const char *val, struct err *e) { return 0; }

static int opt_name(struct qemu *q, const char *val, struct err *e)
{
	static const char *const same[] = { "debug-threads", "process", NULL };
	struct props p;
	int ret = props_parse(val, "guest", &p, e);
	const char *name = ret ? NULL : props_take(&p, "guest");

	if (!ret) {
		props_ignore(&p, same);
		ret = props_done(&p, e);
	}
	if (!ret && name && *name)
		emitf(q, "--name", "%s", name);
	props_free(&p);
	return ret;
}

static int opt_uuid(struct qemu *q, const char *val, struct err *e)
{
	emitf(q, "--uuid", "%s", val);
	return 0;
}

static int opt_action(struct qemu *q, const char *val, struct err *e)
{
	struct props p;
	int ret = props_parse(val, NULL, &p, e);
	const char *v = ret ? NULL : props_take(&p, "reboot");

	if (v && !strcmp(v, "shutdown"))
		q->no_reboot = true;
	else if (v && strcmp(v, "reset"))
		ret = err_set(e, -EINVAL, "reboot=%.20s is neither reset nor shutdown", v);
	v = ret ? NULL : props_take(&p, "shutdown");
	if (v && strcmp(v, "poweroff"))
		ret = err_set(e, -EINVAL, "shutdown=%.20s is not supported; shutdown=poweroff is", v);
	v = ret ? NULL : props_take(&p, "panic");
	if (v && strcmp(v, "shutdown") && strcmp(v, "exit-failure"))
		ret = err_set(e, -EINVAL, "panic=%.20s is not supported; panic=shutdown is", v);
	if (!ret && (v = props_take(&p, "watchdog")))
		q->watchdog_action = keep(q, v);
	if (!ret)
		ret = props_done(&p, e);
	props_free(&p);
	return ret;
}

static int opt_watchdog_action(struct qemu *q, const char *val, struct err *e)
{
	q->watchdog_action = val;
	return 0;
}

/* What was wanted and has no effect here, though the guest or who started it could tell. */
static int no_effect(const char *option, const char *val, const char *text)
{
	warn("%s%s%s: %s", option, val ? " " : "", val ? val : "", text);
	return 0;
}

#define NO_EFFECT(fn, option, text) \
	static int fn(struct qemu *q, const char *val, struct err *e) { return no_effect(option, val, text); }

NO_EFFECT(opt_keyboard, "-k", "there is no choice of keyboard layouts")
NO_EFFECT(opt_logfile, "-D", "there are no such logs here")
NO_EFFECT(opt_mem_path, "-mem-path", "the guest's memory is anonymous; --huge-pages of lodge run gives it large pages")
NO_EFFECT(opt_no_acpi, "-no-acpi", "the guest is told of ACPI all the same")
NO_EFFECT(opt_no_hpet, "-no-hpet", "the guest has an HPET all the same")

static int opt_log(struct qemu *q, const char *val, struct err *e)
{
	return wants_help(q, "log", val) ? -EAGAIN :
		no_effect("-d", val, "there are no such logs here; see --stats and --dump-block in lodge-run(1)");
}

static int opt_trace(struct qemu *q, const char *val, struct err *e)
{
	return wants_help(q, "trace", val) ? -EAGAIN : no_effect("-trace", val, "there are no trace events here");
}

static int opt_sandbox(struct qemu *q, const char *val, struct err *e)
{
	const char *comma = strchr(val, ',');
	size_t n = comma ? (size_t)(comma - val) : strlen(val);

	if ((n != 2 || strncmp(val, "on", n)) && (n != 3 || strncmp(val, "off", n)))
		return err_set(e, -EINVAL, "'on' or 'off' comes first");
	if (comma)
		no_effect("-sandbox", comma + 1, "there is one set of lists, which allows what the guest's threads need and no more");
	q->sandbox = n == 2 ? "on" : "off";
	return 0;
}

static int opt_usb(struct qemu *q, const char *val, struct err *e)
{
	q->usb = "-usb";
	return 0;
}

static int opt_usbdevice(struct qemu *q, const char *val, struct err *e)
{
	char text[32];

	if (strcmp(val, "tablet") && strcmp(val, "mouse") && strcmp(val, "keyboard"))
		return err_set(e, -ENOTSUP, "'%.40s' is not one of tablet, mouse, keyboard", val);
	snprintf(text, sizeof(text), "usb-%s", !strcmp(val, "keyboard") ? "kbd" : val);
	return opt_device(q, text, e);
}

static int opt_watchdog(struct qemu *q, const char *val, struct err *e)
{
	return opt_device(q, val, e);
}

/* "tcp::1234": on the loopback here, since whoever connects owns the guest. */
static int opt_gdb(struct qemu *q, const char *val, struct err *e)
{
	if (!strcmp(val, "none"))
		return 0;
	if (!strncmp(val, "tcp::", 5))
		emitf(q, "--gdb", "%.*s", (int)strcspn(val + 5, ","), val + 5);
	else if (!strncmp(val, "tcp:", 4) || !strncmp(val, "unix:", 5))
		emitf(q, "--gdb", "%.*s", (int)strcspn(val, ","), val);
	else
		return err_set(e, -ENOTSUP, "it is tcp:HOST:PORT or unix:PATH");
	return 0;
}

static int opt_gdb_default(struct qemu *q, const char *val, struct err *e)
{
	return opt_gdb(q, "tcp::1234", e);
}

static int opt_tpmdev(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	const char *type;
	int ret;

	if (wants_help(q, "tpmdev", val))
		return -EAGAIN;
	ret = item_add(q, &q->tpmdevs, "-tpmdev", "type", val, e);
	if (ret)
		return ret;
	it = list_entry(q->tpmdevs.prev, struct qemu_item, node);
	type = props_take(&it->p, "type");
	return type && !strcmp(type, "emulator") ? 0 : err_set(e, -ENOTSUP, "type '%.40s' is not supported; emulator is", type ? type : "");
}

static int opt_incoming(struct qemu *q, const char *val, struct err *e)
{
	emitf(q, "--incoming", "%s", val);
	return 0;
}

static int opt_loadvm(struct qemu *q, const char *val, struct err *e)
{
	emitf(q, "--loadvm", "%s", val);
	return 0;
}

/* What QEMU has and Lodge has not: said, and with what there is instead. */
#define MISSING(fn, text) \
	static int fn(struct qemu *q, const char *val, struct err *e) { return err_set(e, -ENOTSUP, "%s", text); }

MISSING(no_flash, "there are no such flash chips; use -drive or -cdrom")
MISSING(no_readconfig, "files of settings are not read; lodge run --config reads its own")
MISSING(no_window, "there are no windows; use -vnc or -display vnc=ADDRESS")
MISSING(no_user, "lodge-qemu keeps the rights it is started with; start it as the user that is to run it")
MISSING(no_icount, "instructions are not counted; virtual time is the host's")
MISSING(no_shutdown, "a guest that powers off ends the program; it cannot be kept")
MISSING(no_audio, "there is no sound; -audiodev none,id=NAME passes")
MISSING(no_plugin, "there are no TCG plug-ins")
MISSING(no_dtb, "a PC has no device tree")
MISSING(no_semihosting, "a PC has no semihosting")

static int opt_audiodev(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "audiodev", val))
		return -EAGAIN;
	if (!strcmp(val, "none") || !strncmp(val, "none,", 5) || strstr(val, "driver=none"))
		return 0;
	return no_audio(q, val, e);
}

const struct qemu_option qemu_options[] = {
	{ "h", NULL, "display this help and exit", opt_help },
	{ "help", NULL, NULL, opt_help },
	{ "version", NULL, "display version information and exit", opt_version },
	{ "machine", "[type=]name[,prop[=value][,...]]", "selects emulated machine ('-machine help' for list)\n"
	  "                property accel=accel1[:accel2[:...]] selects accelerator\n"
	  "                supported accelerators are kvm, tcg (default: the best)", opt_machine },
	{ "M", "[type=]name[,prop[=value][,...]]", NULL, opt_machine },
	{ "cpu", "cpu", "select CPU ('-cpu help' for list)", opt_cpu },
	{ "accel", "[accel=]accelerator[,prop[=value][,...]]", "select accelerator (kvm, tcg; use 'help' for a list)", opt_accel },
	{ "enable-kvm", NULL, "enable KVM full virtualization support", opt_kvm },
	{ "smp", "[[cpus=]n][,maxcpus=maxcpus][,sockets=sockets][,dies=dies][,cores=cores][,threads=threads]",
	  "set the number of initial CPUs to 'n' [default=1]", opt_smp },
	{ "m", "[size=]megs[,slots=n,maxmem=size]", "configure guest RAM", opt_memory },
	{ "mem-path", "FILE", "provide backing storage for guest RAM (no effect)", opt_mem_path },
	{ "mem-prealloc", NULL, "preallocate guest memory", opt_prealloc },
	{ "overcommit", "[mem-lock=on|off][cpu-pm=on|off]", "mem-lock: guest memory is not swapped out", opt_overcommit },
	{ "numa", "node[,mem=size|memdev=id][,cpus=firstcpu[-lastcpu]][,nodeid=node]\n"
	  "-numa dist,src=source,dst=destination,val=distance\n"
	  "-numa cpu,node-id=node[,socket-id=x][,die-id=x][,core-id=y][,thread-id=z]", "nodes of the guest's memory and CPUs", opt_numa },
	{ "add-fd", "fd=fd,set=set[,opaque=opaque]", "Add 'fd' to fd 'set'", opt_add_fd },
	{ "global", "driver.property=value", "set a global default for a driver property", opt_global },
	{ "boot", "[order=drives][,once=drives][,menu=on|off]", "'drives': floppy (a), hard disk (c), CD-ROM (d), network (n)", opt_boot },
	{ "k", "language", "use keyboard layout (no effect)", opt_keyboard },
	{ "name", "string1[,process=string2][,debug-threads=on|off]", "set the name of the guest", opt_name },
	{ "incoming", "tcp:host:port|unix:path|exec:command|fd:number|defer", "wait for a guest that migrates here", opt_incoming },
	{ "uuid", "%08x-%04x-%04x-%04x-%012x", "specify machine UUID", opt_uuid },
	{ "device", "driver[,prop[=value][,...]]", "add device (based on driver)\n"
	  "                prop=value,... sets driver properties\n"
	  "                use '-device help' to print all possible drivers\n"
	  "                use '-device driver,help' to print all possible properties", opt_device },
	{ "drive", "[file=file][,if=type][,bus=n][,unit=m][,media=d][,index=i]\n"
	  "       [,cache=writethrough|writeback|none|directsync|unsafe][,format=f]\n"
	  "       [,snapshot=on|off][,rerror=ignore|stop|report]\n"
	  "       [,werror=ignore|stop|report|enospc][,id=name]\n"
	  "       [,aio=threads|native|io_uring]\n"
	  "       [,readonly=on|off][,copy-on-read=on|off]\n"
	  "       [,discard=ignore|unmap][,detect-zeroes=on|off|unmap]\n"
	  "       [[,bps=b]|[[,bps_rd=r][,bps_wr=w]]]\n"
	  "       [[,iops=i]|[[,iops_rd=r][,iops_wr=w]]]", "use 'file' as a drive image", opt_drive },
	{ "blockdev", "[driver=]driver[,node-name=N][,discard=ignore|unmap]\n"
	  "          [,cache.direct=on|off][,cache.no-flush=on|off][,auto-read-only=on|off]\n"
	  "          [,read-only=on|off][,driver specific parameters...]", "configure a block backend", opt_blockdev },
	{ "fda", "file", "use 'file' as floppy disk 0 image", opt_fda },
	{ "fdb", "file", "use 'file' as floppy disk 1 image", opt_fdb },
	{ "hda", "file", "use 'file' as hard disk 0 image", opt_hda },
	{ "hdb", "file", "use 'file' as hard disk 1 image", opt_hdb },
	{ "hdc", "file", "use 'file' as hard disk 2 image", opt_hdc },
	{ "hdd", "file", "use 'file' as hard disk 3 image", opt_hdd },
	{ "cdrom", "file", "use 'file' as CD-ROM image", opt_cdrom },
	{ "pflash", "file", "use 'file' as a parallel flash image", opt_pflash },
	{ "snapshot", NULL, "write to temporary files instead of disk image files", opt_snapshot },
	{ "usb", NULL, "enable on-board USB host controller", opt_usb },
	{ "usbdevice", "name", "add the host or guest USB device 'name'", opt_usbdevice },
	{ "display", "none|vnc=<display>[,<optargs>]", "select display backend type", opt_display },
	{ "nographic", NULL, "disable graphical output and redirect serial I/Os to console", opt_nographic },
	{ "vga", "[std|virtio|none]", "select video card type", opt_vga },
	{ "full-screen", NULL, "start in full screen (no effect)", opt_nothing },
	{ "vnc", "<display>", "shorthand for -display vnc=<display>", opt_vnc },
	{ "netdev", "user,id=str[,restrict=on|off][,hostfwd=rule][,tftp=dir][,bootfile=f][,tftp-server-name=name]\n"
	  "         [,domainname=domain][,dnssearch=domain][,hostname=host]\n"
	  "-netdev tap,id=str[,ifname=name][,script=no][,downscript=no][,queues=n][,vhost=on|off]", "configure a user mode network backend with ID 'str'", opt_netdev },
	{ "nic", "[user|tap|none][,option][,...][mac=macaddr]", "initialize an on-board NIC", opt_nic },
	{ "net", "nic[,macaddr=mac][,model=type]", "configure or create an on-board (or machine default) NIC", opt_net },
	{ "chardev", "null|stdio|file|pty|socket|ringbuf|qemu-vdagent,id=id[,...]", "configure a character device", opt_chardev },
	{ "kernel", "bzImage", "use 'bzImage' as kernel image", opt_kernel },
	{ "append", "cmdline", "use 'cmdline' as kernel command line", opt_append },
	{ "initrd", "file", "use 'file' as initial ram disk", opt_initrd },
	{ "fw_cfg", "[name=]<name>,file=<file>|string=<str>", "add named fw_cfg entry with contents from file or string", opt_fw_cfg },
	{ "smbios", "type=0|1|2|3|11[,...]", "specify SMBIOS fields", opt_smbios },
	{ "serial", "dev", "redirect the serial port to char device 'dev'", opt_serial },
	{ "parallel", "none", "no parallel port", opt_parallel },
	{ "monitor", "dev", "redirect the monitor to char device 'dev'", opt_monitor },
	{ "qmp", "dev", "like -monitor but opens in 'control' mode", opt_qmp },
	{ "qmp-pretty", "dev", "like -qmp but uses pretty JSON formatting", opt_qmp_pretty },
	{ "mon", "[chardev=]name[,mode=readline|control][,pretty[=on|off]]", "open a monitor on a char device", opt_mon },
	{ "debugcon", "dev", "redirect the debug console to char device 'dev'", opt_debugcon },
	{ "pidfile", "file", "write PID to 'file'", opt_pidfile },
	{ "S", NULL, "freeze CPU at startup (use 'c' to start execution)", opt_paused },
	{ "s", NULL, "shorthand for -gdb tcp::1234", opt_gdb_default },
	{ "gdb", "dev", "accept gdb connection on 'dev': tcp:HOST:PORT or unix:PATH", opt_gdb },
	{ "fsdev", "local,id=id,path=path,security_model=mapped-xattr|mapped-file|passthrough|none\n"
	  "       [,writeout=immediate][,readonly=on][,fmode=fmode][,dmode=dmode][,multidevs=remap|forbid|warn]", "a folder for a virtio-9p device", opt_fsdev },
	{ "virtfs", "local,path=path,mount_tag=tag,security_model=mapped-xattr|mapped-file|passthrough|none\n"
	  "        [,id=id][,writeout=immediate][,readonly=on][,fmode=fmode][,dmode=dmode][,multidevs=remap|forbid|warn]",
	  "a folder that the guest mounts by its tag", opt_virtfs },
	{ "tpmdev", "emulator,id=id,chardev=dev", "TPM 2.0 by swtpm, whose control socket the chardev is", opt_tpmdev },
	{ "d", "item1,...", "no effect: there are no such logs", opt_log },
	{ "D", "logfile", "no effect", opt_logfile },
	{ "trace", "[enable=]<pattern>", "no effect: there are no trace events", opt_trace },
	{ "L", "path", "set the directory for the BIOS, VGA BIOS and keymaps", opt_data_dir },
	{ "bios", "file", "set the filename for the BIOS", opt_bios },
	{ "no-reboot", NULL, "exit instead of rebooting", opt_no_reboot },
	{ "action", "reboot=reset|shutdown[,watchdog=action]", "action when guest reboots", opt_action },
	{ "watchdog", "i6300esb", "enable virtual hardware watchdog", opt_watchdog },
	{ "watchdog-action", "reset|shutdown|poweroff|inject-nmi|pause|debug|none", "action when watchdog fires [default=reset]",
	  opt_watchdog_action },
	{ "no-hpet", NULL, "no effect: there is an HPET", opt_no_hpet },
	{ "no-acpi", NULL, "no effect: there is ACPI", opt_no_acpi },
	{ "no-fd-bootchk", NULL, "no effect", opt_nothing },
	{ "win2k-hack", NULL, "no effect", opt_nothing },
	{ "echr", "chr", "set terminal escape character instead of ctrl-a", opt_echr },
	{ "rtc", "[base=utc|localtime|<datetime>][,clock=host|rt|vm][,driftfix=none|slew]", "set the RTC base and clock", opt_rtc },
	{ "nodefaults", NULL, "don't create default devices", opt_nodefaults },
	{ "no-user-config", NULL, "do not load default user-provided config files at startup", opt_nothing },
	{ "sandbox", "on|off", "whether the VMM's threads are confined; on unless said otherwise", opt_sandbox },
	{ "msg", "[timestamp[=on|off]][,guest-name=[on|off]]", "no effect", opt_nothing },
	{ "object", "TYPENAME[,PROP1=VALUE1,...]", "create a new object of type TYPENAME", opt_object },
	{ "audiodev", "none,id=id", "no sound", opt_audiodev },
	{ "daemonize", NULL, "daemonize when initialized", opt_daemonize },
	{ "loadvm", "tag", "start right away with a saved state (savevm in monitor)", opt_loadvm },
	{ "print-lodge", NULL, "print the equivalent 'lodge run' command and exit", opt_print_lodge },
	/* Not there: no help, an error that says so. */
	{ "readconfig", "file", NULL, no_readconfig },
	{ "writeconfig", "file", NULL, no_readconfig },
	{ "sdl", NULL, NULL, no_window }, { "curses", NULL, NULL, no_window }, { "spice", "spec", NULL, no_window },
	{ "runas", "user", NULL, no_user }, { "chroot", "dir", NULL, no_user }, { "icount", "spec", NULL, no_icount },
	{ "no-shutdown", NULL, NULL, no_shutdown }, { "soundhw", "card", NULL, no_audio },
	{ "audio", "spec", NULL, no_audio }, { "plugin", "file", NULL, no_plugin }, { "dtb", "file", NULL, no_dtb },
	{ "semihosting", NULL, NULL, no_semihosting }, { "mtdblock", "file", NULL, no_flash }, { "sd", "file", NULL, no_flash },
	{ NULL },
};
