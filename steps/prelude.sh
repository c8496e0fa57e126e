# What every read stands on: where Puppet lives on this host and what it says of itself.
# Detected once a batch. Prints nothing, writes nothing, and succeeds on a host without Puppet.
LC_ALL=C.UTF-8 LANG=C.UTF-8 HOME=${HOME:-/root}
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL LANG HOME PATH

if [ "$(id -u)" != 0 ]; then
    printf '%s %s\n' 'this account is not root: what only root may read would look as if it were' \
        'missing; let sudo start /bin/sh (sudo: true)' >&2
    exit 1
fi

pc_first() { # the first of these paths that can be run
    for pc_x; do
        if [ -x "$pc_x" ]; then printf %s "$pc_x"; return 0; fi
    done
}

pc_own() { # the first of these programs that is not the vendor's, reached through a link
    for pc_x; do
        [ -x "$pc_x" ] || continue
        case $(readlink -f "$pc_x") in
        /opt/puppetlabs/*) ;;
        *) printf %s "$pc_x"; return 0 ;;
        esac
    done
}

pc_within() { # seconds, command: bounded where coreutils allow it
    if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi
}

pc_file() { # a file byte for byte, with what is needed to put a new one in its place
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then printf 'state=absent\n'; return 0; fi
    pc_real=$(readlink -f "$1")
    if [ ! -f "$pc_real" ]; then printf 'state=other\n'; return 0; fi
    [ -L "$1" ] && printf 'link=%s\n' "$pc_real"
    stat -c 'mode=%a
owner=%U:%G
size=%s' "$pc_real"
    if [ "$(stat -c %s "$pc_real")" -gt 49152 ]; then printf 'state=large\n'; return 0; fi
    printf 'state=file\nsha256=%s\n' "$(sha256sum <"$pc_real" | cut -d' ' -f1)"
    printf 'content='
    base64 "$pc_real" | tr -d '\n'
    echo
}

PC_vendor=$(pc_first /opt/puppetlabs/bin/puppet /opt/puppetlabs/bin/puppetserver)
PC_distribution=$(pc_own /usr/bin/puppet /usr/bin/puppetserver)
if [ -n "$PC_vendor" ]; then
    PC_puppet=$(pc_first /opt/puppetlabs/bin/puppet)
    PC_puppetserver=$(pc_first /opt/puppetlabs/bin/puppetserver)
    PC_library=/opt/puppetlabs/puppet/lib/ruby/vendor_ruby
    PC_server_confdir=/etc/puppetlabs/puppetserver
else
    PC_puppet=$(pc_own /usr/bin/puppet)
    PC_puppetserver=$(pc_own /usr/bin/puppetserver)
    PC_library=/usr/lib/ruby/vendor_ruby
    [ -d "$PC_library/puppet" ] || PC_library=/usr/share/ruby/vendor_ruby
    PC_server_confdir=/etc/puppet/puppetserver
fi
# Packages whose installation was broken off are no Puppet yet, whatever files are there.
if [ -n "$PC_puppet" ] && command -v dpkg-query >/dev/null 2>&1; then
    case $(dpkg-query -W -f '${Package} ${db:Status-Status}\n' puppet-agent openvox-agent \
        puppetserver openvox-server 2>/dev/null) in
    *-agent\ unpacked* | *-agent\ half-*) PC_puppet= PC_puppetserver= ;;
    *server\ unpacked* | *server\ half-*) PC_puppetserver= ;;
    esac
fi
PC_ruby=$(pc_first /opt/puppetlabs/puppet/bin/ruby /usr/bin/ruby)
PC_openssl=$(pc_first /opt/puppetlabs/puppet/bin/openssl /usr/bin/openssl)

# A version of Puppet costs a second of Ruby to ask for; its source says the same for nothing.
PC_version=
if [ -n "$PC_puppet" ]; then
    PC_version=$(sed -n "s/^ *PUPPETVERSION = ['\"]\([^'\"]*\)['\"].*/\1/p" \
        "$PC_library/puppet/version.rb" 2>/dev/null | head -n 1)
    [ -n "$PC_version" ] || PC_version=$(pc_within 20 "$PC_puppet" --version 2>/dev/null)
fi

# Section [server] exists since Puppet 6.19; before that Puppet Server reads [master].
case $PC_version in
[0-5].* | 6.[0-9].* | 6.1[0-8].*) PC_section=master ;;
*) PC_section=server ;;
esac

PC_wanted='autosign|ca_port|ca_server|cacert|cacrl|cadir|certname|certdir|confdir|config|csrdir'
PC_wanted="$PC_wanted|codedir|dns_alt_names|environment|environmentpath|hostcert|hostcrl|hostcsr|hostprivkey"
PC_wanted="$PC_wanted|hostpubkey|lastrunfile|localcacert|manage_internal_file_permissions"
PC_wanted="$PC_wanted|masterport|serverport|noop|publicdir|resourcefile|runinterval|server"
PC_wanted="$PC_wanted|server_list|signeddir|srv_domain|ssldir|statedir|use_srv_records|vardir"
PC_wanted="$PC_wanted|agent_catalog_run_lockfile|agent_disabled_lockfile|crl_refresh_interval"
PC_wanted="$PC_wanted|reports|reporturl|route_file|storeconfigs|storeconfigs_backend"
PC_wanted="$PC_wanted|report_include_system_store"
PC_wanted="$PC_wanted|basemodulepath|default_manifest|external_nodes|hiera_config"
PC_wanted="$PC_wanted|node_terminus|strict|strict_variables|trusted_external_command|user"
PC_wanted="$PC_wanted|versioned_environment_dirs"

pc_print() { # run modes: the settings the steps ask for, as Puppet takes them, "mode:name = value"
    # Loading Puppet costs a second: once for all, and then its own command line for each.
    # shellcheck disable=SC2016  # Ruby
    pc_within 50 "$PC_ruby" -e '
      require "puppet"
      require "puppet/util/command_line"
      said = ARGV.map do |mode|
        child = IO.popen("-")
        unless child
          $stderr.reopen($stdout)
          $stdin.reopen("/dev/null")
          wanted = %W[config print all --color=false --section #{mode}]
          Puppet::Util::CommandLine.new("puppet", wanted).execute
          exit
        end
        [mode, child]
      end
      said.each do |mode, child|
        child.each_line(65_536) { |line| puts "#{mode}:#{line}" }
        child.close
      end
    ' "$@" 2>/dev/null
}
pc_print_each() { # the same, a program for each
    for pc_mode; do
        pc_within 50 "$PC_puppet" config print all --color=false --section "$pc_mode" 2>&1 |
            sed -u "s/^/$pc_mode:/" &
    done
    wait
}
pc_of() { # run mode: of what was said, the part of one
    printf '%s\n' "$PC_said" | sed -n "s/^$1://p"
}

pc_conf_files() {
    printf '%s\n' "$PC_said" | sed -nE 's/^[a-z]+:config = //p' | sort -u
}
pc_made_from() { # a digest of all that what was said is made from
    command -v sha256sum >/dev/null 2>&1 || return 0
    {
        printf '%s\n' "$PC_puppet $PC_version $pc_modes" "$PC_wanted" "$PC_said"
        stat -L -c '%n %s %Z' "$PC_library/puppet/defaults.rb"
        # Some defaults come from this host's names, and from what lies in two folders.
        pc_within 5 hostname -f
        { pc_conf_files; printf '%s\n' /etc/hosts /etc/hostname /etc/resolv.conf; } |
            while IFS= read -r pc_x; do
                stat -L -c '%n %a %U %G %s %Z' "$pc_x" && cat "$pc_x"
            done
        printf '%s\n' "$PC_said" | sed -nE 's/^[a-z]+:(ssldir|codedir|confdir) = //p' | sort -u |
            while IFS= read -r pc_x; do stat -c %N "$pc_x/ca" "$pc_x/hiera.yaml"; done
    } 2>&1 | sha256sum | cut -d' ' -f1
}
pc_settled() { # since: no file of settings changed while Puppet read it
    pc_conf_files | while IFS= read -r pc_x; do
        [ "$(stat -L -c %Z "$pc_x" 2>/dev/null || echo 0)" -lt "$1" ] || exit 1
    done
}

# What this host said the last time is told to it as $pc_told: a digest, and the settings it is of.
PC_agent= PC_server= PC_error= PC_said= PC_mark=
if [ -n "$PC_puppet" ]; then
    pc_modes=agent
    [ -z "$PC_puppetserver" ] || pc_modes="$PC_section agent"
    case ${pc_told-} in
    *:*)
        PC_said=${pc_told#*
}
        PC_mark=$(pc_made_from)
        [ "$PC_mark" = "${pc_told%%
*}" ] || PC_said= PC_mark=
        ;;
    esac
    pc_since=$(date +%s)
    # A puppet.conf it cannot read is an error on stderr, exit 0, and the defaults for everything.
    pc_wanted="s/^([a-z]+:)($PC_wanted) = /&/p; s/^[a-z]+:Error: /error:/p"
    # Bounded: a Puppet that prints without an end would fill the memory of this shell.
    # shellcheck disable=SC2086  # a list of words
    [ -n "$PC_said" ] || [ -z "$PC_ruby" ] || [ "$pc_modes" = agent ] ||
        PC_said=$(pc_print $pc_modes | sed -u -nE "$pc_wanted" | head -c 131072)
    # shellcheck disable=SC2086
    [ -n "$PC_said" ] || PC_said=$(pc_print_each $pc_modes | sed -u -nE "$pc_wanted" | head -c 131072)
    PC_agent=$(pc_of agent)
    PC_server=$(pc_of "$PC_section")
    PC_error=$(pc_of error | sort -u | head -c 600)
    [ -n "$PC_agent" ] || PC_error=${PC_error:-no answer within 50 s}
    # Loading Puppet takes seconds of a processor: what it said is kept for the next time.
    [ -n "$PC_error$PC_mark" ] || ! pc_settled "$pc_since" || PC_mark=$(pc_made_from)
fi

# The same settings as variables of this shell: PS_ssldir, PS_hostcert, ... as the agent has them,
# and of the server's own what an agent has no use for.
ps_take() { # settings, names
    pc_ifs=$IFS
    IFS='
'
    set -f
    for pc_line in $1; do
        case "|$2|" in
        *"|${pc_line%% = *}|"*) eval "PS_${pc_line%% = *}=\${pc_line#* = }" ;;
        esac
    done
    set +f
    IFS=$pc_ifs
}
PS_certname= PS_hostcert= PS_hostprivkey= PS_localcacert= PS_hostcrl= PS_ssldir= PS_config=
PS_confdir= PS_statedir= PS_resourcefile= PS_lastrunfile= PS_agent_disabled_lockfile=
PS_agent_catalog_run_lockfile= PS_cadir= PS_cacert= PS_cacrl= PS_csrdir= PS_signeddir= PS_autosign=
ps_take "$PC_agent" "$PC_wanted"
ps_take "$PC_server" 'cadir|cacert|cacrl|csrdir|signeddir|autosign'
