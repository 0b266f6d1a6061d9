// SPDX-License-Identifier: GPL-2.0-or-later
/* QEMU's command lines become the arguments of `lodge run` that mean the same, or an error that names the option. */
#include "../unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu/qemu.h"

#define WORDS 64

/* The words are separated by "|". Returns lodge run's, likewise, or the message; the caller's. */
static char *say(const char *line, bool *failed)
{
	static char name[] = "lodge-qemu";
	char *copy = strdup(line), *argv[WORDS] = { name }, *save = NULL, *out = NULL;
	struct qemu *q = malloc(sizeof(*q));
	struct err e = { 0 };
	size_t len;
	FILE *f = open_memstream(&out, &len);
	int argc = 1, ret;

	assert_non_null(q);
	for (char *w = strtok_r(copy, "|", &save); w && argc < WORDS; w = strtok_r(NULL, "|", &save))
		argv[argc++] = w;
	qemu_init(q);
	ret = qemu_parse(q, argc, argv, &e);
	if (!ret && !q->ask)
		ret = qemu_emit(q, &e);
	*failed = ret;
	if (ret)
		fputs(e.msg, f);
	for (unsigned i = 0; !ret && i < q->argc; i++)
		fprintf(f, "%s|", q->argv[i]);
	if (!ret && q->ask)
		assert_int_equal(qemu_answer(q, f), 0);
	fclose(f);
	qemu_free(q);
	free(q);
	free(copy);
	return out;
}

static void gives(const char *line, const char *part)
{
	bool failed;
	char *out = say(line, &failed);

	if (failed || !strstr(out, part))
		fail_msg("'%s' gives '%s', without '%s'", line, out, part);
	free(out);
}

static void lacks(const char *line, const char *part)
{
	bool failed;
	char *out = say(line, &failed);

	if (failed || strstr(out, part))
		fail_msg("'%s' gives '%s'", line, out);
	free(out);
}

static void fails(const char *line, const char *part)
{
	bool failed;
	char *out = say(line, &failed);

	if (!failed || !strstr(out, part))
		fail_msg("'%s' gives '%s', and not an error with '%s'", line, out, part);
	free(out);
}

/* What is said on standard error meanwhile. */
static char *warning_of(const char *line)
{
	FILE *real = stderr;
	char *text = NULL, *out;
	bool failed;
	size_t len;

	stderr = open_memstream(&text, &len);
	out = say(line, &failed);
	fclose(stderr);
	stderr = real;
	if (failed)
		fail_msg("'%s' fails: %s", line, out);
	free(out);
	return text;
}

static void warns(const char *line, const char *part)
{
	char *text = warning_of(line);

	if (!strstr(text, part))
		fail_msg("'%s' warns '%s', without '%s'", line, text, part);
	free(text);
}

static void is_quiet(const char *line)
{
	char *text = warning_of(line);

	if (*text)
		fail_msg("'%s' warns '%s'", line, text);
	free(text);
}

/* What is asked for and does nothing says so, unless it is so anyway. */
static void effects(void **state)
{
	warns("-no-hpet", "-no-hpet: the guest has an HPET all the same");
	warns("-M|q35,hpet=off,vmport=on", "-machine: hpet=off has no effect");
	warns("-M|q35,hpet=off,vmport=on", "-machine: vmport=on has no effect");
	is_quiet("-M|q35,hpet=on,vmport=off,acpi=auto,kernel_irqchip=split,mem-merge=off");
	is_quiet("-M|microvm,pit=off,pic=off,rtc=on|-kernel|k");
	warns("-M|microvm,pit=on|-kernel|k", "-machine: pit=on has no effect");
	warns("-usb|-nodefaults", "-usb has no effect: a USB controller comes with a device on it");
	warns("-M|q35,usb=on|-nodefaults", "-machine usb=on has no effect");
	gives("-device|qemu-xhci|-display|none", "--usb|absent|");
	is_quiet("-device|qemu-xhci|-display|none");
	is_quiet("-usb|-device|usb-kbd|-display|none");
	is_quiet("-usb|-usbdevice|tablet|-display|none");
	is_quiet("-usb|-vnc|:1");		/* a tablet comes with it */
	warns("-global|a.b=c", "-global a.b=c has no effect");
	warns("-global|driver=cfi.pflash01,property=secure,value=on", "-global cfi.pflash01.secure=on has no effect");
	is_quiet("-global|driver=cfi.pflash01,property=secure,value=off");
	is_quiet("-global|kvm-pit.lost_tick_policy=discard|-global|ICH9-LPC.disable_s3=1");
	warns("-global|ICH9-LPC.disable_s3=0", "ICH9-LPC.disable_s3=0 has no effect");
	warns("-global|isa-debugcon.iobase=0x402", "isa-debugcon.iobase=0x402 has no effect");
	fails("-global|driver=a", "-global driver=a: it is driver.property=value");
	fails("-global|driver=a,property=b,value=c,d=e", "'d' is not supported");
	fails("-global|a", "driver.property=value");
	warns("-cpu|host,kvm=off", "-cpu: kvm=off has no effect");
	warns("-cpu|host,hv_relaxed", "-cpu: hv_relaxed=on has no effect");
	is_quiet("-cpu|host,migratable=on,hv-time=off,enforce=off");
	warns("-smp|6,sockets=2,cores=3", "cores of one socket");
	lacks("-smp|6,sockets=2,cores=3", "--topology");
	warns("-numa|node,cpus=0|-numa|node|-smp|2", "CPUs that no node has are node 0's");
	is_quiet("-smp|4,sockets=4");
	is_quiet("-smp|4,sockets=1,cores=4");
	warns("-m|1G,maxmem=4G", "slots and maxmem have no effect");
	warns("-device|virtio-rng-pci,disable-modern=on", "-device virtio-rng-pci: disable-modern=on has no effect");
	is_quiet("-device|virtio-rng-pci,disable-modern=false,disable-legacy=on");
	gives("-m|1G,maxmem=4G,slots=2|-object|memory-backend-ram,id=m1,size=3G|-device|virtio-mem-pci,id=vm0,memdev=m1,node=0,block-size=4M,requested-size=1G",
	      "--memory-device|vm0,memdev=m1,size=3145728K,node=0,block-size=4096K,requested-size=1048576K|");
	gives("-m|1G,maxmem=4G|-object|memory-backend-ram,id=m1,size=3G|-device|virtio-mem-pci,memdev=m1", "--memory|1024M,max=4096M|");
	is_quiet("-m|1G,maxmem=4G|-object|memory-backend-ram,id=m1,size=3G|-device|virtio-mem-pci,memdev=m1,requested-size=2147483648");
	fails("-m|1G|-object|memory-backend-ram,id=m1,size=3G|-device|virtio-mem-pci,memdev=m1", "maxmem=");
	fails("-m|1G,maxmem=512M", "must be at least the initial memory size");
	fails("-m|1G,maxmem=4G|-device|virtio-mem-pci", "'memdev' property is not set");
	fails("-m|1G,maxmem=4G|-device|virtio-mem-pci,memdev=m", "memdev=m is no memory backend");
	fails("-m|1G,maxmem=4G|-object|iothread,id=m|-device|virtio-mem-pci,memdev=m", "memdev=m is no memory backend");
	fails("-m|1G,maxmem=4G|-object|memory-backend-ram,id=m,size=1G|-device|virtio-mem-pci,memdev=m|-device|virtio-mem-pci,memdev=m", "already busy memdev");
	gives("-device|vhost-vsock-pci,guest-cid=5", "--vsock|cid=5|");
	is_quiet("-device|vhost-vsock-pci,guest-cid=5,vhostfd=3");
	fails("-device|vhost-vsock-pci", "guest-cid is missing");
	gives("-chardev|socket,id=c,path=/s,reconnect=3|-device|vhost-user-blk-pci,chardev=c,num-queues=2,queue-size=256,bootindex=1",
	      "--disk|vhost-user=/s,reconnect=3,num-queues=2,queue-size=256,bootindex=1|");
	gives("-object|memory-backend-memfd,id=m,size=1G,share=on|-machine|q35,memory-backend=m|-m|1G|-chardev|socket,id=c,path=/s,server=on,wait=off|-device|vhost-user-fs-pci,chardev=c,tag=t",
	      "--share|virtiofs=/s,server=on,tag=t|");
	fails("-device|vhost-user-blk-pci", "chardev is missing");
	fails("-chardev|null,id=c|-device|vhost-user-blk-pci,chardev=c", "not a socket with a path");
	fails("-chardev|socket,id=c,path=/s|-device|vhost-user-fs-pci,chardev=c", "tag is missing");
	warns("-drive|if=virtio,file=f,detect-zeroes=unmap", "detect-zeroes=unmap has no effect");
	warns("-drive|if=virtio,file=f,cache=directsync", "the guest has to flush");
	warns("-boot|bc", "-boot: 'b' has no effect");
	warns("-k|de", "-k de: there is no choice");
	warns("-drive|if=none,id=d,file=f|-device|scsi-hd,drive=d,lun=1", "-device scsi-hd: lun=1 has no effect without scsi-id");
	is_quiet("-drive|if=none,id=d,file=f|-device|scsi-hd,drive=d,scsi-id=2,lun=1");
	fails("-audiodev|nonesuch,id=a", "there is no sound");
	warns("-chardev|null,id=c", "-chardev c is used by nothing");
	warns("-snapshot|-pflash|CODE|-pflash|VARS", "VARS, the firmware's variables, is written to all the same");
}

static void machine(void **state)
{
	gives("-m|1G|-smp|4,sockets=1,cores=4,threads=1", "--cpus|4|--memory|1024M|");
	gives("-m|size=1.5G", "--memory|1536M|");
	gives("-m|1234567k", "--memory|1206M|");
	gives("-m|300", "--memory|300M|");
	gives("-M|q35,accel=kvm:tcg|-cpu|max,la57=off", "--accel|auto|--cpu|max,-la57|");
	gives("-machine|microvm|-kernel|k", "--machine|micro|");
	gives("-accel|tcg,tb-size=64,thread=multi", "--accel|translate|--code-cache|64M|");
	gives("-enable-kvm", "--accel|auto|");
	gives("-kernel|k|-initrd|i|-append|a b=c,d", "--kernel|k|--initrd|i|--append|a b=c,d|");
	lacks("-kernel|k", "--firmware");
	gives("-boot|dc,menu=on", "--boot|order=dc,menu=on|");
	gives("-rtc|base=localtime,driftfix=slew", "--rtc|base=localtime|");
	gives("-fw_cfg|name=opt/a,string=x,,y", "--fw-cfg|opt/a,string=x,,y|");
	gives("-name|guest=n,,1,debug-threads=on", "--name|n,1|");
	gives("-smp|1,maxcpus=4", "--max-cpus|4|");
	gives("-smp|2,maxcpus=4,sockets=4,cores=1,threads=1", "--cpus|2|--max-cpus|4|--topology|sockets=4,dies=1,cores=1,threads=1|");
	gives("-smp|8,threads=2,cores=2", "--topology|sockets=2,dies=1,cores=2,threads=2|");
	gives("-smp|8,dies=2", "--topology|sockets=1,dies=2,cores=4,threads=1|");
	gives("-smp|sockets=2,cores=2", "--cpus|4|--topology|sockets=2,dies=1,cores=2,threads=1|");
	lacks("-smp|4", "--topology");
	fails("-smp|4,clusters=2", "clusters > 1 not supported");
	gives("-smp|4|-numa|node,cpus=0-1|-numa|node,cpus=2,cpus=3", "--numa|node,cpus=0-1|--numa|node,cpus=2-3|");
	gives("-m|1G|-smp|2|-numa|node,nodeid=1,mem=256,cpus=1|-numa|node,nodeid=0,mem=768M,cpus=0|-numa|dist,src=0,dst=1,val=21",
	      "--numa|node,cpus=0,memory=768M,distance=1:21|--numa|node,cpus=1,memory=256M|");
	gives("-m|1G|-object|memory-backend-ram,id=a,size=256M|-object|memory-backend-memfd,id=b,size=768M|-numa|node,memdev=a|-numa|node,memdev=b",
	      "--numa|node,memory=256M|--numa|node,memory=768M|");
	gives("-smp|4,sockets=2|-numa|node|-numa|node|-numa|cpu,node-id=1,socket-id=0|-numa|cpu,node-id=0,socket-id=1,core-id=0,thread-id=0|-numa|cpu,node-id=0,socket-id=1,core-id=1",
	      "--numa|node,cpus=2-3|--numa|node,cpus=0-1|");
	gives("-smp|1,maxcpus=4,sockets=2,cores=1,threads=2|-device|max-x86_64-cpu,socket-id=1,core-id=0,thread-id=1,node-id=0", "--vcpu|3|");
	fails("-smp|1,maxcpus=4,sockets=2,cores=1,threads=2|-device|max-x86_64-cpu,core-id=0,thread-id=1", "socket-id is not set");
	gives("-m|1G|-object|memory-backend-ram,id=a,size=1G,host-nodes=0-1,host-nodes=3,policy=bind,prealloc=on|-machine|memory-backend=a",
	      "--memory-backing|prealloc=on,host-nodes=0-1,host-nodes=3,policy=bind|");
	gives("-m|1G|-object|memory-backend-ram,id=a,size=1G,host-nodes=1,policy=preferred|-numa|node,memdev=a",
	      "--numa|node,memory=1024M,host-nodes=1,policy=preferred|");
	gives("-overcommit|mem-lock=on|-mem-prealloc", "--memory-backing|prealloc=on,lock=on|");
	gives("-machine|q35,mem-merge=on", "--memory-backing|prealloc=off,merge=on|");
	lacks("-machine|q35,mem-merge=off|-overcommit|mem-lock=off", "--memory-backing");
	warns("-overcommit|cpu-pm=on", "cpu-pm=on has no effect");
	fails("-overcommit|cpu-am=on", "cpu-am");
	fails("-m|1G|-object|memory-backend-ram,id=a,size=1G,host-nodes=1|-machine|memory-backend=a", "host-nodes must be empty for policy default");
	fails("-m|1G|-object|memory-backend-ram,id=a,size=1G,policy=bind|-numa|node,memdev=a", "host-nodes must be set for policy bind");
	fails("-numa|node,nodeid=1", "Node ID missing: 0");
	fails("-numa|node,nodeid=0|-numa|node,nodeid=0", "Duplicate NUMA nodeid: 0");
	fails("-m|1G|-numa|node,mem=512M", "total memory for NUMA nodes (0x20000000) should equal RAM size (0x40000000)");
	fails("-numa|node,memdev=a", "memdev=a is ambiguous or does not exist");
	fails("-numa|node,cpus=1-64", "cpus=1-64");
	fails("-numa|node|-numa|dist,src=0,dst=1,val=20", "there is no node 1");
	fails("-numa|node|-numa|dist,src=0,dst=0,val=9", "val");
	fails("-numa|node|-numa|cpu,node-id=1,socket-id=0", "there is no node 1");
	fails("-smp|2|-numa|node,cpus=0|-numa|node|-numa|cpu,node-id=1,socket-id=0", "CPU 0 is node 0's already");
	fails("-numa|hmat-lb,initiator=0", "node, dist and cpu");
	fails("-numa|node,colour=red", "colour");
	lacks("-smp|4,maxcpus=4", "--max-cpus");
	warns("-smp|1,maxcpus=288", "at most 64 CPUs");
	gives("-smp|1,maxcpus=4|-device|host-x86_64-cpu,id=cpu1,socket-id=0,core-id=1,thread-id=0", "--vcpu|1,id=cpu1|");
	gives("-smp|1,maxcpus=4|-device|EPYC-x86_64-cpu,socket-id=0,die-id=0,core-id=3,thread-id=0", "--vcpu|3|");
	fails("-smp|1,maxcpus=4|-device|max-x86_64-cpu,socket-id=0,thread-id=0", "core-id is not set");
	fails("-smp|1,maxcpus=4|-device|max-x86_64-cpu,socket-id=1,core-id=1,thread-id=0", "socket-id");
	fails("-smp|1,maxcpus=4|-device|max-x86_64-cpu,socket-id=0,core-id=64,thread-id=0", "core-id");
	fails("-smp|4,maxcpus=2", "maxcpus must be equal");
	fails("-smp|4,sockets=2,cores=4", "CPU topology");
	gives("-cpu|qemu64,-aes,aes=off", "--cpu|x86-64-v2,-aes,-aes|");
	fails("-cpu|486", "CPU model '486'");
	fails("-cpu|foo=bar", "CPU model ''");
	fails("-M|virt", "-M virt: unsupported machine type 'virt'");
	fails("-accel|hvf", "'hvf'");
	fails("-m|lots", "-m lots: 'lots' is not a size");
	fails("-frobnicate", "-frobnicate: invalid option");
	fails("-m", "requires an argument");
	gives("-s|-S", "--gdb|1234|");
	gives("-chardev|socket,id=t,path=/t|-tpmdev|emulator,id=a,chardev=t|-device|tpm-crb,tpmdev=a", "--tpm|crb,socket=/t,end=on|");
}

static void file_of(const char *folder, const char *name, off_t size)
{
	char *path;
	int fd;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	free(path);
}

/* The line with each % replaced by the folder. */
static char *in_folder(const char *folder, const char *line)
{
	char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	for (; *line; line++)
		if (*line == '%')
			fputs(folder, f);
		else
			fputc(*line, f);
	fclose(f);
	return out;
}

/* A build that needs system management mode is replaced by the one of its size beside it, and both are named; one without such a sibling stays, and so do others. */
static void firmware(void **state)
{
	static const struct { const char *line, *part; } rows[] = {
		{ "-pflash|%/A.secboot.fd", "--firmware|%/A.fd|" },
		{ "-drive|if=pflash,file=%/A.ms.fd,readonly=on|-drive|if=pflash,file=%/V", "--firmware|%/A.fd|--firmware-vars|%/V|" },
		{ "-bios|%/A.ms.fd", "--firmware|%/A.fd|" },
		{ "-pflash|%/B.secboot.fd", "--firmware|%/B.secboot.fd|" },	/* another size: other variables */
		{ "-pflash|%/C.snakeoil.fd", "--firmware|%/C.snakeoil.fd|" },	/* alone */
		{ "-pflash|%/A.fd", "--firmware|%/A.fd|" },
	};
	char folder[] = "/tmp/lodge-test-XXXXXX", *link, *line, *part;

	assert_non_null(mkdtemp(folder));
	file_of(folder, "A.fd", 4096);
	file_of(folder, "A.secboot.fd", 4096);
	file_of(folder, "B.fd", 8192);
	file_of(folder, "B.secboot.fd", 4096);
	file_of(folder, "C.snakeoil.fd", 4096);
	link = in_folder(folder, "%/A.ms.fd");
	assert_int_equal(symlink("A.secboot.fd", link), 0);
	free(link);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		line = in_folder(folder, rows[i].line);
		part = in_folder(folder, rows[i].part);
		gives(line, part);
		if (i < 3)
			warns(line, "/A.fd is taken in its place");
		else
			is_quiet(line);
		free(line);
		free(part);
	}
	for (unsigned i = 0; i < 6; i++) {
		static const char *const names[] = { "%/A.fd", "%/A.secboot.fd", "%/B.fd", "%/B.secboot.fd", "%/C.snakeoil.fd", "%/A.ms.fd" };

		link = in_folder(folder, names[i]);
		assert_int_equal(unlink(link), 0);
		free(link);
	}
	assert_int_equal(rmdir(folder), 0);
}

static void disks(void **state)
{
	gives("a,b.img", "--disk|a,,b.img,if=ahci,backing=on|");
	gives("-drive|file=x,,y.qcow2,if=virtio,format=qcow2,cache=directsync,discard=unmap",
	      "--disk|x,,y.qcow2,if=virtio,format=qcow2,backing=on,cache=none,discard=unmap|");
	gives("-drive|if=none,id=d,file=f,snapshot=on,readonly=off|-device|virtio-scsi-pci,id=s|-device|scsi-hd,drive=d,bus=s.0,serial=S",
	      "--disk|f,if=scsi,snapshot=on,backing=on,serial=S|");
	gives("-fda|f.img", "--disk|f.img,if=floppy,backing=on|");
	gives("-fdb|f.img", "--disk|,if=floppy|--disk|f.img,if=floppy,backing=on|");
	gives("-drive|if=floppy,index=1,file=b,format=raw,readonly=on|-drive|if=floppy,file=a",
	      "--disk|a,if=floppy,backing=on|--disk|b,if=floppy,ro=on,format=raw,backing=on|");
	gives("-drive|if=none,id=d,file=a|-device|isa-fdc,id=f|-device|floppy,unit=0,drive=d,bootindex=1", "--disk|a,if=floppy,backing=on,bootindex=1|");
	gives("-boot|order=ca", "--boot|order=ca|");
	fails("-fda|a|-drive|if=floppy,unit=0,file=b", "floppy drive 0 is there already");
	fails("-drive|if=floppy,index=2,file=a", "index");
	gives("-cdrom|c.iso", "--disk|c.iso,if=ahci,cdrom=on,backing=on|");
	gives("-snapshot|-hda|f", ",snapshot=on,");
	gives("-drive|if=pflash,unit=0,file=CODE,format=raw,readonly=on|-drive|if=pflash,unit=1,file=VARS,format=raw",
	      "--firmware|CODE|--firmware-vars|VARS|");
	gives("-blockdev|{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\",\"filename\":\"a,b\"}}|-device|nvme,drive=n,serial=1",
	      "--blockdev|{\"node-name\":\"n\",\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"a,b\"}}|--disk|node=n,if=nvme,serial=1|");
	gives("-blockdev|file,node-name=p,filename=f|-blockdev|raw,file=p,node-name=n|-device|virtio-blk-pci,drive=n",
	      "--blockdev|{\"node-name\":\"p\",\"driver\":\"file\",\"filename\":\"f\"}|--blockdev|{\"node-name\":\"n\",\"driver\":\"raw\",\"file\":\"p\"}|"
	      "--disk|node=n,if=virtio|");
	gives("-add-fd|fd=7,set=2|-drive|file=/dev/fdset/2,if=virtio", "--disk|/proc/self/fd/7,if=virtio");
	gives("-add-fd|fd=7,set=2|-blockdev|qcow2,node-name=n,file.filename=/dev/fdset/2,cache.direct=on|-device|virtio-blk-pci,drive=n",
	      "--blockdev|{\"node-name\":\"n\",\"driver\":\"qcow2\",\"file\":{\"filename\":\"/proc/self/fd/7\"},\"cache\":{\"direct\":\"on\"}}|--disk|node=n,if=virtio|");
	gives("-blockdev|blkdebug,node-name=b,image=n,inject-error.0.event=none,inject-error.1.event=read_aio",
	      "{\"node-name\":\"b\",\"driver\":\"blkdebug\",\"image\":\"n\",\"inject-error\":[{\"event\":\"none\"},{\"event\":\"read_aio\"}]}");
	gives("-object|secret,id=s,file=x|-object|throttle-group,id=g,x-iops-total=5",
	      "--object|{\"qom-type\":\"secret\",\"id\":\"s\",\"file\":\"x\"}|--object|{\"qom-type\":\"throttle-group\",\"id\":\"g\",\"x-iops-total\":\"5\"}|");
	gives("-blockdev|file,node-name=p,filename=C,read-only=on|-machine|pc,pflash0=p", "--firmware|C|");
	fails("-blockdev|file,node-name=p,filename=f,cache=on,cache.direct=on", "does not go with");
	fails("-blockdev|file,node-name=p,filename=f|-device|virtio-blk-pci,drive=p|-device|virtio-blk-pci,drive=p", "already in use");
	fails("-blockdev|file,node-name=p,filename=f|-blockdev|file,node-name=p,filename=g", "two with the node-name 'p'");
	gives("-drive|if=none,id=d,file=f,discard=unmap,rerror=auto|-device|virtio-blk-pci,drive=d,discard=on,write-cache=off",
	      "--disk|f,if=virtio,backing=on,cache=writethrough,discard=unmap|");
	gives("-drive|if=none,id=d,file=f,discard=unmap|-device|virtio-blk-pci,drive=d,discard=off", ",discard=unmap,discard=ignore|");
	gives("-drive|if=virtio,file=f,cache.writeback=off,cache.direct=on", ",cache=writethrough|");
	gives("-drive|if=none,id=d,file=f,cache=unsafe|-device|virtio-blk-pci,drive=d,write-cache=off", ",cache=unsafe|");
	fails("-add-fd|fd=7", "fd= and set= are needed");
	fails("-add-fd|fd=7,set=2,frob=1", "'frob' is not supported");
	fails("-pflash|A|-pflash|B|-drive|if=pflash,unit=1,file=C", "two for flash 1: B and C");
	fails("-pflash|A|-drive|if=pflash,file=B,readonly=on", "flash 1: B: variables are written to it");
	fails("-drive|file=f,if=virtio,frob=1", "-drive: the property 'frob' is not supported");
	fails("-device|virtio-blk-pci,drive=nope", "no drive 'nope'");
	fails("-drive|if=none,id=d,file=f|-device|virtio-blk-pci,drive=d|-device|virtio-blk-pci,drive=d", "already in use");
	fails("-drive|id=d,file=f|-drive|id=d,file=g", "two with the ID 'd'");
	fails("-blockdev|{\"driver\":", "JSON");
	gives("-drive|file.file.filename=/o.qcow2,file.driver=qcow2,file.backing.file.locking=off,cache=unsafe,id=h,if=none|-device|scsi-hd,drive=h", "--disk|/o.qcow2,");
	gives("-drive|file.file.filename=/o,file.driver=qcow2,id=h,if=none|-device|virtio-blk-pci,drive=h", "format=qcow2");
}

static void nets(void **state)
{
	gives("-kernel|k", "--net|user|");
	gives("-nodefaults", "--net|none|");
	gives("-net|none", "--net|none|");
	gives("-netdev|user,id=n,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-10.0.2.15:53|-device|virtio-net-pci,netdev=n,mac=52:54:00:1:2:3",
	      "--net|user,fwd=tcp:127.0.0.1:2222:22,fwd=udp:0.0.0.0:53:10.0.2.15:53,mac=52:54:00:1:2:3,netdev=n|");
	gives("-nic|user,hostfwd=tcp::80-:80,model=e1000", "--net|user,fwd=tcp:0.0.0.0:80:80,model=e1000e|");
	gives("-net|nic,model=virtio|-net|user,hostfwd=tcp:127.0.0.1:10022-:22", "--net|user,fwd=tcp:127.0.0.1:10022:22|");
	gives("-netdev|tap,id=t,ifname=tap0,script=no,downscript=no|-device|e1000e,netdev=t", "--net|tap,if=tap0,model=e1000e,netdev=t|");
	gives("-netdev|user,id=n|-device|pcie-root-port,id=rp1,chassis=3,slot=7|-device|virtio-net-pci,netdev=n,id=card,bus=rp1",
	      "--root-port|rp1,slot=7|--net|user,id=card,bus=rp1,netdev=n|");
	gives("-netdev|user,id=n|-device|e1000e,netdev=n,bus=pcie.0", "--net|user,model=e1000e,netdev=n|");
	gives("-netdev|user,id=n|-device|e1000e,netdev=n,bus=pci.0,addr=0x13", "--net|user,model=e1000e,slot=19,netdev=n|");
	gives("-netdev|user,id=n|-device|e1000e,netdev=n,addr=3.0", "--net|user,model=e1000e,slot=3,netdev=n|");
	/* Functions, and where the chipset is: the next free slot. */
	gives("-netdev|user,id=n|-device|e1000e,netdev=n,addr=3.1", "--net|user,model=e1000e,netdev=n|");
	gives("-netdev|user,id=n|-device|e1000e,netdev=n,addr=0x1f", "--net|user,model=e1000e,netdev=n|");
	gives("-drive|id=d,file=f,if=none|-device|virtio-blk-pci,drive=d,addr=05", "slot=5");
	gives("-kernel|k", "--pci-hotplug|on|");
	gives("-M|pc", "--pci-hotplug|on|");
	lacks("-M|q35", "--pci-hotplug");
	lacks("-M|microvm", "--pci-hotplug");
	lacks("-M|pc|-global|PIIX4_PM.acpi-root-pci-hotplug=off", "--pci-hotplug");
	fails("-device|pcie-root-port", "id is missing");
	fails("-net|nic,netdev=no", "there is no netdev 'no'");
	fails("-netdev|user,id=n|-net|nic,netdev=n|-net|nic,netdev=n", "netdev 'n' is already in use");
	fails("-netdev|vde,id=n|-device|virtio-net-pci,netdev=n", "type 'vde' is not supported");
	fails("-nic|user,model=ne2k_pci", "ne2k_pci");
	fails("-netdev|user,id=n,hostfwd=bad|-device|virtio-net-pci,netdev=n", "forwarding rule");
}

static void chars(void **state)
{
	gives("-nographic", "--chardev|stdio,id=serial0,mux=on,signal=off|--serial|serial0|--monitor|serial0|");
	gives("-nographic|-monitor|none", "--console|stdio|--escape|3|");
	gives("-nographic|-serial|null", "--chardev|stdio,id=compat_monitor0|--monitor|compat_monitor0|");
	lacks("-nographic|-nodefaults", "stdio");
	gives("-nographic|-echr|2", "--chardev|stdio,id=serial0,mux=on,escape=2,signal=off|");
	gives("-nodefaults|-serial|stdio", "--console|stdio|--escape|3|");
	gives("-serial|none|-serial|unix:/s,server=on,wait=off", "--serial|none|--chardev|socket,id=serial1,path=/s,server=on,wait=off|--serial|serial1|");
	gives("-serial|unix:/s,server,nowait", "--chardev|socket,id=serial0,path=/s,server=on,wait=off|--serial|serial0|");
	gives("-serial|tcp:localhost:4444", "socket,id=serial0,host=localhost,port=4444|");
	gives("-chardev|socket,path=/c,id=channel0|-device|virtserialport,chardev=channel0,name=org.libguestfs.channel.0",
	      "--chardev|socket,id=channel0,path=/c|--port|org.libguestfs.channel.0,chardev=channel0|");
	gives("-chardev|socket,path=/c,server=on,wait=off,id=hvc0|-device|virtconsole,chardev=hvc0", "--port|port0,chardev=hvc0,console=on|");
	gives("-qmp|unix:/q,server=on,wait=off", "--qmp|unix:/q,server=on,wait=off|");
	gives("-qmp|unix:a=b", "--qmp|unix:a=b,server=off|");
	gives("-qmp|stdio", "--qmp|stdio|");
	gives("-chardev|socket,id=m,path=/q,server=on,wait=off|-mon|chardev=m,mode=control", "--qmp|unix:/q,server=on,wait=off|");
	gives("-debugcon|file:/d", "--debugcon|/d|");
	gives("-chardev|qemu-vdagent,id=v,name=vdagent,clipboard=on,mouse=off|-device|virtserialport,chardev=v,name=com.redhat.spice.0",
	      "--chardev|vdagent,id=v|--port|com.redhat.spice.0,chardev=v|");
	gives("-chardev|qemu-vdagent,id=v|-device|virtserialport,chardev=v,name=com.redhat.spice.0", "--chardev|null,id=v|");
	warns("-chardev|qemu-vdagent,id=v,mouse=on|-device|virtserialport,chardev=v,name=com.redhat.spice.0", "mouse=on has no effect");
	fails("-chardev|spicevmc,id=v|-device|virtserialport,chardev=v", "'spicevmc' is not supported");
	fails("-device|virtserialport,chardev=no", "no chardev 'no'");
	gives("-chardev|file,id=x,path=/x,append=on|-device|isa-serial,chardev=x|-serial|none",
	      "--serial|none|--chardev|file,id=x,path=/x,append=on|--serial|x|");
	gives("-nographic|-chardev|null,id=x|-device|isa-serial,chardev=x", "--vga|");
	gives("-nographic|-chardev|null,id=x|-device|isa-serial,chardev=x", "--chardev|stdio,id=compat_monitor0|--monitor|compat_monitor0|");
	gives("-chardev|stdio,id=s,signal=off|-serial|chardev:s", "--console|stdio|--escape|1,x|");
	gives("-chardev|stdio,id=s,signal=on|-serial|chardev:s", "--console|stdio|--escape|3|");
	fails("-chardev|null,id=x|-device|isa-serial,chardev=x,index=2", "-device isa-serial: index=2: the next port is 0");
	fails("-device|isa-serial", "chardev is missing");
	fails("-serial|tcp:4444", "'tcp:4444' has no port");
	fails("-chardev|file,id=x|-serial|chardev:x", "path is missing");
	fails("-chardev|file,id=x,path=/x,append=on|-debugcon|chardev:x", "append=on is not supported");
	fails("-chardev|socket,id=x,path=/x,abstract=on|-serial|chardev:x", "abstract=on is not supported");
	gives("-chardev|socket,id=x,fd=4,server=on|-serial|chardev:x", "--chardev|socket,id=x,fd=4,server=on|--serial|x|");
	gives("-monitor|stdio", "--chardev|stdio,id=compat_monitor0|--monitor|compat_monitor0|");
	gives("-monitor|unix:/a=b,server=on,wait=off", "--chardev|socket,id=compat_monitor0,path=/a=b,server=on,wait=off|--monitor|compat_monitor0|");
	gives("-monitor|telnet:127.0.0.1:4444,server=on,wait=off",
	      "--chardev|socket,id=compat_monitor0,host=127.0.0.1,port=4444,server=on,wait=off,telnet=on|--monitor|compat_monitor0|");
	lacks("-nographic|-monitor|none|-serial|none", "monitor");
	gives("-chardev|stdio,id=c,mux=on|-serial|chardev:c|-mon|chardev=c|-device|virtconsole,chardev=c",
	      "--chardev|stdio,id=c,mux=on|--serial|c|--monitor|c|");
	fails("-chardev|pty,id=c|-serial|chardev:c|-mon|c", "already in use");
	fails("-chardev|pty,id=c|-mon|c,mode=x", "neither readline nor control");
	fails("-serial|stdio|-serial|stdio", "multiple character devices");
	fails("-serial|mon:stdio|-monitor|stdio", "multiple character devices");
}

static void screens(void **state)
{
	gives("-nodefaults", "--vga|none|");
	lacks("-display|none", "--display");
	gives("-vnc|127.0.0.1:47", "--vga|std|--display|vnc=127.0.0.1:47|");
	gives("-vnc|127.0.0.1:47,password=on", "--display|vnc=127.0.0.1:47,password=later|");
	gives("-nodefaults|-device|virtio-vga,max_outputs=2|-display|none", "--vga|virtio,outputs=2|");
	fails("-display|gtk", "no windows");
	fails("-vga|cirrus", "-vga cirrus");
}

static void lists(void **state)
{
	gives("-version", "QEMU emulator version 7.2.0");
	gives("-help", "\n-no-hpet ");
	gives("-help", "\n-display ");
	gives("-machine|help", "\nq35 ");
	gives("-cpu|help", "\nx86 max ");
	gives("-device|?", "name \"virtio-scsi-pci\", bus PCI");
	gives("-device|virtio-net-pci,help", "  mac=<str>");
	gives("-accel|help", "\ntcg\n");
	gives("-netdev|help", "\nuser\n");
	gives("-chardev|help", "  socket\n");
}

static void sizes(void **state)
{
	uint64_t n;

	assert_int_equal(props_size("0x10k", 1, &n, NULL), 0);
	assert_int_equal(n, 16384);
	assert_int_equal(props_size("1.5M", 1, &n, NULL), 0);
	assert_int_equal(n, 3 << 19);
	assert_int_equal(props_size("12", 1 << 20, &n, NULL), 0);
	assert_int_equal(n, 12 << 20);
	assert_int_not_equal(props_size("9223372036854775807M", 1, &n, NULL), 0);
	assert_int_not_equal(props_size("8E", 1, &n, NULL), 0);
	assert_int_not_equal(props_size("-1", 1, &n, NULL), 0);
	assert_int_not_equal(props_size("1MM", 1, &n, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(machine), cmocka_unit_test(firmware), cmocka_unit_test(disks), cmocka_unit_test(nets), cmocka_unit_test(chars),
		cmocka_unit_test(screens), cmocka_unit_test(lists), cmocka_unit_test(sizes),
		cmocka_unit_test(effects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
