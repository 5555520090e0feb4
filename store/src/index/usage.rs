//! Where the disk goes, by query.

use super::Index;
use crate::digest::Digest;
use crate::error::Result;

impl Index {
    /// Disk of each image's contents: those that it alone refers to, and those that others do too.
    pub fn usage_by_image(&mut self) -> Result<Vec<(Digest, u64, u64)>> {
        let sql = "
            WITH used AS (
                SELECT DISTINCT image, object
                FROM image_layer JOIN layer USING (diff_id) JOIN layer_object ON layer = layer.id
            ), users AS (
                SELECT object, count(*) AS images FROM used GROUP BY object
            )
            SELECT image.id,
                   coalesce(sum(disk) FILTER (WHERE images = 1), 0),
                   coalesce(sum(disk) FILTER (WHERE images > 1), 0)
            FROM image
                 LEFT JOIN used ON used.image = image.id
                 LEFT JOIN users USING (object)
                 LEFT JOIN object ON object.id = used.object
            GROUP BY image.id
            ORDER BY image.stored DESC, image.id";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Bytes of all distinct contents, and disk of those that no image with a name, and none of these, needs.
    pub fn usage_of_pool(&mut self, rooted: &[String]) -> Result<(u64, u64)> {
        let sql = "
            WITH needed AS (
                SELECT DISTINCT object
                FROM image_layer JOIN layer USING (diff_id) JOIN layer_object ON layer = layer.id
                WHERE image IN (SELECT image FROM reference UNION SELECT value FROM json_each(?1))
            )
            SELECT coalesce(sum(size), 0),
                   coalesce(sum(disk) FILTER (WHERE id NOT IN (SELECT object FROM needed)), 0)
            FROM object";
        let rooted = serde_json::Value::from(rooted).to_string();
        Ok(self.connection.query_row(sql, [rooted], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }
}
