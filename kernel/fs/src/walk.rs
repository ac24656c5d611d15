//! Path resolution.
//!
//! A [`Walk`] holds the place reached and the text still to go; a symbolic link puts its target in
//! front of that text. The last component is left to the caller, who may follow, create or remove
//! it.

use crate::creds::{Access, Creds};
use crate::file::Place;
use crate::inode::Link;
use crate::mount::Path;
use crate::stat::FileType;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use frames::fallible::{TryVec, copied};

/// Symbolic links followed in one resolution at most.
pub const MAX_LINKS: u32 = 40;

/// The resolution of one path.
pub struct Walk<'a> {
    creds: &'a Creds,
    root: &'a Path,
    /// The start, when the walk must stay beneath it.
    fence: Option<Path>,
    resolve: u32,
    links: u32,
    here: Path,
    text: Cow<'a, [u8]>,
    at: usize,
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name, not looked up yet. `slash`: one followed it, so it must be a directory.
    Name { name: Vec<u8>, slash: bool },
    /// ".": the place reached.
    Dot,
    /// "..": the place reached is the one above already.
    DotDot,
    /// Nothing but slashes.
    Root,
}

enum Component {
    Dot,
    DotDot,
    Name,
}

impl<'a> Walk<'a> {
    /// From `base` for a relative path, from `root` for an absolute one. ENOENT for an empty path.
    pub fn new(
        creds: &'a Creds,
        root: &'a Path,
        base: &'a Path,
        text: &'a [u8],
        resolve: u32,
    ) -> Result<Self> {
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        let scoped = resolve & (g::RESOLVE_BENEATH | g::RESOLVE_IN_ROOT) != 0;
        let root = if resolve & g::RESOLVE_IN_ROOT != 0 { base } else { root };
        let walk = Self {
            creds,
            root,
            fence: scoped.then(|| base.clone()),
            resolve,
            links: 0,
            here: if text[0] == b'/' { root.clone() } else { base.clone() },
            text: Cow::Borrowed(text),
            at: 0,
        };
        if text[0] == b'/' {
            walk.check_absolute()?;
        }
        Ok(walk)
    }

    fn check_absolute(&self) -> Result<()> {
        if self.resolve & g::RESOLVE_BENEATH != 0 {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    /// The place reached.
    pub fn here(&self) -> &Path {
        &self.here
    }
    /// The place reached.
    pub fn into_here(self) -> Path {
        self.here
    }

    fn skip_slashes(&mut self) {
        while self.text.get(self.at) == Some(&b'/') {
            self.at += 1;
        }
    }

    /// The bounds of the next component, and where the one after it would begin.
    fn next(&mut self) -> Option<(usize, usize, Component)> {
        self.skip_slashes();
        let start = self.at;
        let text = &self.text[start..];
        if text.is_empty() {
            return None;
        }
        let len = text.iter().position(|&b| b == b'/').unwrap_or(text.len());
        let kind = match &text[..len] {
            b"." => Component::Dot,
            b".." => Component::DotDot,
            _ => Component::Name,
        };
        self.at = start + len;
        Some((start, start + len, kind))
    }

    fn search_allowed(&self) -> Result<()> {
        if !self.here.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.creds.check_inode(self.here.dentry.inode(), Access::EXEC)
    }

    fn up(&mut self) -> Result<()> {
        if let Some(fence) = &self.fence
            && self.here == *fence
        {
            // Beneath: an error; in-root: ".." of the root is the root.
            return if self.resolve & g::RESOLVE_BENEATH != 0 { Err(Errno::EXDEV) } else { Ok(()) };
        }
        let above = self.here.ascend(self.root);
        self.cross(above)
    }

    /// Moves to `next`, which must be on the same mount if the walk may not cross.
    fn cross(&mut self, next: Path) -> Result<()> {
        if self.resolve & g::RESOLVE_NO_XDEV != 0 && next.mount.id() != self.here.mount.id() {
            return Err(Errno::EXDEV);
        }
        self.here = next;
        Ok(())
    }

    /// The child `start..end` of the place reached, with what is mounted on it.
    #[inline]
    fn child(&self, start: usize, end: usize) -> Result<Path> {
        self.search_allowed()?;
        self.child_unchecked(&self.text[start..end])
    }

    fn child_unchecked(&self, name: &[u8]) -> Result<Path> {
        let dentry = self.here.dentry.lookup(name)?;
        let path = Path { mount: self.here.mount.clone(), dentry }.descend();
        if self.resolve & g::RESOLVE_NO_XDEV != 0 && path.mount.id() != self.here.mount.id() {
            return Err(Errno::EXDEV);
        }
        Ok(path)
    }

    /// Follows the symbolic link `link`, found in the place reached: puts its target before the
    /// rest of the text, or for a magic link returns the object.
    pub fn follow(&mut self, link: &Path) -> Result<Option<Place>> {
        self.links += 1;
        if self.links > MAX_LINKS || self.resolve & g::RESOLVE_NO_SYMLINKS != 0 {
            return Err(Errno::ELOOP);
        }
        if link.mount.flags() & g::MS_NOSYMFOLLOW != 0 {
            return Err(Errno::ELOOP);
        }
        let target = link.dentry.inode().follow()?;
        link.accessed();
        match target {
            Link::Path(target) => {
                if target.is_empty() {
                    return Err(Errno::ENOENT);
                }
                if target[0] == b'/' {
                    self.check_absolute()?;
                    let root = self.root.clone();
                    self.cross(root)?;
                }
                let mut text = target;
                text.try_extend(&self.text[self.at..])?;
                self.text = Cow::Owned(text);
                self.at = 0;
                Ok(None)
            }
            Link::Jump(place) => {
                if self.resolve & g::RESOLVE_NO_MAGICLINKS != 0 {
                    return Err(Errno::ELOOP);
                }
                if self.fence.is_some() {
                    return Err(Errno::EXDEV);
                }
                if self.resolve & g::RESOLVE_NO_XDEV != 0
                    && place.path().is_none_or(|to| to.mount.id() != self.here.mount.id())
                {
                    return Err(Errno::EXDEV);
                }
                Ok(Some(place))
            }
        }
    }

    /// Walks everything but the last component. With `None` there was no text left: the place
    /// reached is the result.
    fn before_last(&mut self) -> Result<Option<(usize, usize, Component)>> {
        loop {
            let Some((start, end, kind)) = self.next() else { return Ok(None) };
            let mut rest = self.at;
            while self.text.get(rest) == Some(&b'/') {
                rest += 1;
            }
            if rest == self.text.len() {
                return Ok(Some((start, end, kind)));
            }
            match kind {
                Component::Dot => self.search_allowed()?,
                Component::DotDot => {
                    self.search_allowed()?;
                    self.up()?;
                }
                Component::Name => {
                    let child = self.child(start, end)?;
                    if child.dentry.is_dir() {
                        self.here = child;
                    } else if child.dentry.inode().base().file_type() == FileType::Symlink {
                        if let Some(place) = self.follow(&child)? {
                            self.here = match place {
                                Place::Path(path) if path.dentry.is_dir() => path,
                                _ => return Err(Errno::ENOTDIR),
                            };
                        }
                    } else {
                        return Err(Errno::ENOTDIR);
                    }
                }
            }
        }
    }

    /// Walks to the directory of the last component; then [`Walk::here`] is that directory (or
    /// for "." and "..", the place meant).
    pub fn parent(&mut self) -> Result<Last> {
        match self.before_last()? {
            None => Ok(Last::Root),
            Some((_, _, Component::Dot)) => {
                self.search_allowed()?;
                Ok(Last::Dot)
            }
            Some((_, _, Component::DotDot)) => {
                self.search_allowed()?;
                self.up()?;
                Ok(Last::DotDot)
            }
            Some((start, end, Component::Name)) => {
                self.search_allowed()?;
                let slash = end < self.text.len();
                Ok(Last::Name { name: copied(&self.text[start..end])?, slash })
            }
        }
    }

    /// The child `name` of the directory that [`Walk::parent`] reached.
    pub fn child_of_parent(&self, name: &[u8]) -> Result<Path> {
        self.child_unchecked(name)
    }

    /// Walks to the end. `follow`: also through a symbolic link at the end (one with a slash
    /// behind it is followed in any case).
    pub fn finish(mut self, follow: bool) -> Result<Place> {
        loop {
            match self.before_last()? {
                None => return Ok(Place::Path(self.here)),
                Some((_, _, Component::Dot)) => {
                    self.search_allowed()?;
                    return Ok(Place::Path(self.here));
                }
                Some((_, _, Component::DotDot)) => {
                    self.search_allowed()?;
                    self.up()?;
                    return Ok(Place::Path(self.here));
                }
                Some((start, end, Component::Name)) => {
                    let slash = end < self.text.len();
                    let child = self.child(start, end)?;
                    if (follow || slash)
                        && !child.dentry.is_dir()
                        && child.dentry.inode().base().file_type() == FileType::Symlink
                    {
                        match self.follow(&child)? {
                            None => continue,
                            Some(place) if slash && !place.inode().base().is_dir() => {
                                return Err(Errno::ENOTDIR);
                            }
                            Some(place) => return Ok(place),
                        }
                    }
                    if slash && !child.dentry.is_dir() {
                        return Err(Errno::ENOTDIR);
                    }
                    return Ok(Place::Path(child));
                }
            }
        }
    }
}
