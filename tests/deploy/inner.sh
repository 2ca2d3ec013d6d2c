# Inside: what is written to /etc, /var, /run and /srv stays inside, and systemd runs.
set -e
mount -t tmpfs tmpfs "$1"
for part in etc var root; do
    mkdir "$1/$part" "$1/$part/upper" "$1/$part/work"
    mount -t overlay overlay -o "lowerdir=/$part,upperdir=$1/$part/upper,workdir=$1/$part/work" "/$part"
done
chmod 755 /root # the Python of this checkout may live there, and another user is to run it
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /srv
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
# systemctl asks the manager that runs here, which finds the units of the system's.
mount -t tmpfs tmpfs /etc/systemd/system
rm -rf /etc/systemd/user
ln -s system /etc/systemd/user
mkdir /run/bin
printf '#!/bin/sh\nexec /usr/bin/systemctl --user "$@"\n' >/run/bin/systemctl
chmod +x /run/bin/systemctl
systemd --user --log-target=console --unit=basic.target &
until systemctl --user is-active --quiet basic.target 2>/dev/null; do
    kill -0 $!
    sleep 0.1
done
# As the system's manager has it: services of other users may tell it something.
chmod 777 "$XDG_RUNTIME_DIR/systemd/notify"
echo ready
wait
