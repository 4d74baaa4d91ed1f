//! What servers of an ensemble send one another: the messages of consensus as packets and notifications, byte for
//! byte as Java's servers have them (quorum spec, sections 3.1 and 4).
