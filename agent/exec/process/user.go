package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// person is who a task's process runs as.
type person struct {
	// account is nil for the agent's own.
	account *account
	name    string
	home    string
}

// findPerson reads "user" or "user:group", each by name or number. The agent's
// own user needs no right to switch.
func findPerson(text string) (person, error) {
	if text == "" {
		return person{}, nil
	}
	name, group, grouped := strings.Cut(text, ":")
	found, err := findUser(name)
	if err != nil {
		return person{}, err
	}
	p := person{account: &account{}}
	if found == nil {
		if !grouped {
			return person{}, fmt.Errorf("user %s has no entry on this node, so its group is not known; name a group too, as in %s:%s", name, name, name)
		}
		if p.account.UID, err = number(name); err != nil {
			return person{}, err
		}
	} else {
		p.name, p.home = found.Username, found.HomeDir
		if p.account.UID, err = number(found.Uid); err != nil {
			return person{}, err
		}
		if p.account.GID, err = number(found.Gid); err != nil {
			return person{}, err
		}
		if p.account.Groups, err = groupsOf(found); err != nil {
			return person{}, err
		}
	}
	if grouped {
		if p.account.GID, err = findGroup(group); err != nil {
			return person{}, err
		}
		p.account.Groups = []uint32{p.account.GID}
	}
	own := int(p.account.UID) == os.Geteuid() && int(p.account.GID) == os.Getegid()
	if own {
		p.account = nil
	} else if os.Geteuid() != 0 {
		return person{}, fmt.Errorf("cannot run as %s: swarmd on this node does not run as root; leave the user out, or run swarmd as root", text)
	}
	return p, nil
}

// findUser returns nil for a number without an entry.
func findUser(text string) (*user.User, error) {
	found, err := user.Lookup(text)
	if err == nil {
		return found, nil
	}
	if _, parsed := number(text); parsed != nil {
		return nil, fmt.Errorf("no user %q on this node; create it, or name another", text)
	}
	found, err = user.LookupId(text)
	if missing := user.UnknownUserIdError(0); errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", text, err)
	}
	return found, nil
}

func findGroup(text string) (uint32, error) {
	if found, err := user.LookupGroup(text); err == nil {
		return number(found.Gid)
	}
	gid, err := number(text)
	if err != nil {
		return 0, fmt.Errorf("no group %q on this node; create it, or name another", text)
	}
	return gid, nil
}

func groupsOf(u *user.User) ([]uint32, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up the groups of user %s: %w", u.Username, err)
	}
	groups := make([]uint32, 0, len(ids))
	for _, id := range ids {
		gid, err := number(id)
		if err != nil {
			return nil, err
		}
		groups = append(groups, gid)
	}
	slices.Sort(groups)
	return groups, nil
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// own gives the file or directory to the person.
func (p person) own(path string) error {
	if p.account == nil {
		return nil
	}
	return os.Lchown(path, int(p.account.UID), int(p.account.GID))
}
